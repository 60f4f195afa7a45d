package registry

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What is in ZooKeeper outlives any one version of this code, so its text is
// pinned here, byte for byte.
func TestEncode(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]Entry{
		// Weight is always written: 0 means draining. Read back, an absent one is 10.
		`{"host":"10.0.0.1","port":31000,"weight":10}`: {Host: "10.0.0.1", Port: 31000, Weight: 10},
		`{"host":"10.0.0.1","port":31000,"weight":0}`:  {Host: "10.0.0.1", Port: 31000, Weight: 0},
		`{"host":"h","port":1,"name":"n<1>","weight":256,"haproxy_server_options":"a & b","labels":{"a:b":"","c":"<d>"}}`: {
			Host: "h", Port: 1, Name: "n<1>", Weight: 256, ServerOptions: "a & b", Labels: map[string]string{"c": "<d>", "a:b": ""},
		},
	} {
		if got := string(Encode(e)); got != want {
			t.Errorf("Encode(%+v) = %s, want %s", e, got, want)
		}
	}
}

func TestNodeName(t *testing.T) {
	t.Parallel()
	// As nerve wrote it, but for the weight, which we always write.
	const name = "base64_68_eyJob3N0IjoiMTI3LjAuMC4xIiwicG9ydCI6MTgwMDEsIm5hbWUiOiJ0ZXN0aG9zdCJ9_0000000000"
	text, ok := decodeName(name)
	if want := `{"host":"127.0.0.1","port":18001,"name":"testhost"}`; !ok || string(text) != want {
		t.Errorf("decodeName: %s, %v", text, ok)
	}
	for want, e := range map[string]Entry{
		"base64_44_eyJob3N0IjoiaCIsInBvcnQiOjEsIndlaWdodCI6MTB9_0000000012": {Host: "h", Port: 1, Weight: 10},
		// synapse finds a draining entry neither in the name nor in the data.
		"draining_base64_44_eyJob3N0IjoiaCIsInBvcnQiOjEsIndlaWdodCI6MH0=_0000000012": {Host: "h", Port: 1, Weight: 0},
	} {
		if got := NodeName(e, 12); got != want {
			t.Errorf("NodeName = %s, want %s", got, want)
		}
		if text, ok := decodeName(want); !ok || string(text) != string(Encode(e)) {
			t.Errorf("decodeName(%s): %s, %v", want, text, ok)
		}
	}
	if got, want := string(data(Entry{Host: "h", Port: 1})), `{"draining":{"host":"h","port":1,"weight":0}}`; got != want {
		t.Errorf("data = %s, want %s", got, want)
	}
	for _, name := range []string{
		"", "testhost_0000000001", "testhost_", "base64_", "base64_68_", "base64_x_e30=_0", "base64_99999999999999999999_e30=_0",
		"base64_-1_e30=_0", "base64_4_e30=_x", "base64_4_e30=", "base64_5_e30=_0", "base64_4_e3!=_0",
	} {
		if text, ok := decodeName(name); ok {
			t.Errorf("decodeName(%q) = %q", name, text)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Entry{
		`{"host":"10.0.0.1","port":31000}`:                {Host: "10.0.0.1", Port: 31000, Weight: 10},
		`{"host":"10.0.0.1","port":"31000","weight":"0"}`: {Host: "10.0.0.1", Port: 31000, Weight: 0},
		`{"host":"::1","port":1,"weight":5.0}`:            {Host: "::1", Port: 1, Weight: 5},
		`{"host":"a_b.c.","port":1,"weight":null,"name":null,"labels":{"x":null,"y":"z"},"new":[1]}`: {
			Host: "a_b.c.", Port: 1, Weight: 10, Labels: map[string]string{"x": "", "y": "z"},
		},
		// nerve takes any weight, and labels as YAML has them.
		`{"host":"a","port":1,"weight":1000,"labels":{"shard": 3 ,"canary":true}}`: {
			Host: "a", Port: 1, Weight: 256, Labels: map[string]string{"shard": "3", "canary": "true"},
		},
	} {
		got, err := Decode([]byte(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Decode(%s): %v\n%s", text, err, diff)
		}
	}
	for name, text := range map[string]string{
		"empty":                  ``,
		"not JSON":               `hello`,
		"an array":               `[]`,
		"null":                   `null`,
		"two values":             `{"host":"a","port":1}{}`,
		"no host":                `{"port":1}`,
		"no port":                `{"host":"a"}`,
		"other case":             `{"HOST":"a","Port":1}`,
		"host is a number":       `{"host":1,"port":1}`,
		"host with a space":      `{"host":"a b","port":1}`,
		"host with a newline":    `{"host":"a\nserver x","port":1}`,
		"host with a dash first": `{"host":"-a","port":1}`,
		"host with a zone":       `{"host":"fe80::1%eth0","port":1}`,
		"host with a port":       `{"host":"a:1","port":1}`,
		"huge host":              `{"host":"` + strings.Repeat("a", 300) + `","port":1}`,
		"port 0":                 `{"host":"a","port":0}`,
		"port below":             `{"host":"a","port":-1}`,
		"port above":             `{"host":"a","port":65536}`,
		"port far above":         `{"host":"a","port":1e400}`,
		"port with a fraction":   `{"host":"a","port":1.5}`,
		"port is an object":      `{"host":"a","port":{}}`,
		"port is other text":     `{"host":"a","port":"http"}`,
		"weight below":           `{"host":"a","port":1,"weight":-1}`,
		"name with a space":      `{"host":"a","port":1,"name":"a b"}`,
		"name with a control":    `{"host":"a","port":1,"name":"a\u0000"}`,
		"labels are a list":      `{"host":"a","port":1,"labels":[]}`,
		"label is a list":        `{"host":"a","port":1,"labels":{"x":[]}}`,
		"label is an object":     `{"host":"a","port":1,"labels":{"x":{}}}`,
		"label with a newline":   `{"host":"a","port":1,"labels":{"x":"\n"}}`,
		"option with a newline":  `{"host":"a","port":1,"haproxy_server_options":"a\nb"}`,
		"not UTF-8":              "{\"host\":\"a\",\"port\":1,\"name\":\"\xff\"}",
		"huge":                   `{"host":"a","port":1,"x":"` + strings.Repeat("a", 100<<10) + `"}`,
		"deep":                   strings.Repeat(`{"a":`, 10_000),
	} {
		if e, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, e)
		}
	}
}

// An operator reads these.
func TestDecodeSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "entry is empty",
		" \n":                                  "entry is empty",
		`[1]`:                                  "entry is no JSON object: it is of type array",
		`"10.0.0.1:80"`:                        "entry is no JSON object: it is of type string",
		`10.0.0.1:80`:                          "entry is no JSON object: invalid character",
		`{}`:                                   "entry has no host",
		`null`:                                 "entry has no host",
		`{"host":"a"}`:                         "entry has no port",
		`{"host":"a","port":null}`:             "entry has no port",
		`{"host":7,"port":1}`:                  "host: it is of type number",
		`{"host":"a","port":true}`:             "port: \"true\" is no whole number",
		`{"host":"a","port":1,"labels":["x"]}`: "labels: it is of type array",
	} {
		if _, err := Decode([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Decode(%q): %v, want %s", text, err, want)
		}
	}
}

// Whatever passes Check comes back from its node's name as it was.
func TestNodeNameIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{
			Host:          rapid.SampledFrom([]string{"10.0.0.1", "::1", "host-1.example"}).Draw(t, "host"),
			Port:          rapid.IntRange(1, 65535).Draw(t, "port"),
			Name:          rapid.StringMatching(`[\pL\pN<>&"'_.-]{0,20}`).Draw(t, "name"),
			Weight:        rapid.IntRange(0, 256).Draw(t, "weight"),
			ServerOptions: rapid.StringMatching(`[\pL\pN<>& ]{0,20}`).Draw(t, "options"),
		}
		if n := rapid.IntRange(0, 5).Draw(t, "labels"); n > 0 {
			e.Labels = map[string]string{}
			for i := range n {
				e.Labels[strconv.Itoa(i)+rapid.StringMatching(`[\pL:]{0,9}`).Draw(t, "key")] = rapid.StringMatching(`[\pL ]{0,9}`).Draw(t, "value")
			}
		}
		text, ok := decodeName(NodeName(e, 0))
		got, err := Decode(text)
		if diff := cmp.Diff(e, got); !ok || err != nil || diff != "" {
			t.Fatalf("%v, %v\n%s", ok, err, diff)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"host":"a","port":1,"weight":10}`))
	f.Add([]byte(`{"host":"::1","port":"1","labels":{"a":null},"haproxy_server_options":"x"}`))
	f.Add([]byte(`{"host":"a\n","port":1e3,"name":"\u2028"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Decode(text)
		if err != nil {
			return
		}
		again, err := Decode(Encode(e))
		if diff := cmp.Diff(e, again); err != nil || diff != "" {
			t.Errorf("%+v came back as %+v, %v", e, again, err)
		}
		b := base64.URLEncoding.EncodeToString(text)
		back, ok := decodeName("base64_" + strconv.Itoa(len(b)) + "_" + b + "_0000000007")
		if !ok || string(back) != string(text) {
			t.Errorf("path encoding changed %q into %q, %v", text, back, ok)
		}
	})
}

func TestSequence(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"h_0000000007": 7, "base64_4_e30=_0000000012": 12, "draining_base64_4_e30=_2147483647": 2147483647, "/a/b_c/h_1": 1, "h_9999999999": 9999999999,
	} {
		if got, ok := Sequence(name); !ok || got != want {
			t.Errorf("Sequence(%q) = %d, %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "7", "h", "h_", "h_x", "h_-1", "h_00000000000", "h_1e3", "/a_1/b"} {
		if got, ok := Sequence(name); ok {
			t.Errorf("Sequence(%q) = %d", name, got)
		}
	}
}

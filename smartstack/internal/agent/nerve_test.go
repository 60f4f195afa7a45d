package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/zk"
)

// nerveWorld is a host with what the original nerve may leave in ZooKeeper.
type nerveWorld struct {
	*world
	h   *host
	dir string
}

const nerveDir = registry.Root + "/web.main"

// node writes a znode as it is.
func (w nerveWorld) node(name, text string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.ops.Put(ctx, nerveDir+"/"+name, []byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

func (w nerveWorld) delete(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.ops.DeleteAll(ctx, strings.TrimSuffix(nerveDir+"/"+name, "/")); err != nil {
		w.t.Fatal(err)
	}
}

// encoded is the name that nerve gives a znode with use_path_encoding.
func encoded(text string, sequence int) string {
	b := base64.URLEncoding.EncodeToString([]byte(text))
	return fmt.Sprintf("base64_%d_%s_%010d", len(b), b, sequence)
}

// servers waits until HAProxy has exactly these servers, each "name address
// weight", and haproxy.cfg and the file for other tools say so, too.
func (w nerveWorld) servers(after string, want ...string) {
	w.t.Helper()
	want = slices.Sorted(slices.Values(want))
	eventuallySay(w.t, after, func() error {
		states, err := w.h.options.Process.Runtime().ServerStates(context.Background(), 0, "web.main")
		if err != nil {
			return err
		}
		var got []string
		for _, s := range states {
			if !s.Maint {
				got = append(got, fmt.Sprintf("%s %s %d", s.Name, s.Addr, s.Weight))
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("HAProxy has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		config := w.h.config()
		for _, line := range want {
			f := strings.Fields(line)
			if !strings.Contains(config, "server "+f[0]+" "+f[1]+" ") {
				return fmt.Errorf("%s is not in haproxy.cfg", f[0])
			}
		}
		return nil
	})
}

func eventuallySay(t testing.TB, what string, ok func() error) {
	t.Helper()
	eventually(t, func() error {
		if err := ok(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// written waits until the file for other tools holds a text.
func (w nerveWorld) written(after, want string) {
	w.t.Helper()
	eventuallySay(w.t, after, func() error {
		text, err := os.ReadFile(filepath.Join(w.dir, "web.main.json"))
		if err != nil || !strings.Contains(string(text), want) {
			return errors.Join(err, fmt.Errorf("want %s in %s", want, text))
		}
		return nil
	})
}

// What the original nerve writes, in all its forms and at once after each other,
// is what HAProxy has and what other tools read.
func TestNerveZnodes(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0") // every address of 127/8
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	at := func(host, more string) string { return fmt.Sprintf(`{"host":%q,"port":%d%s}`, host, port, more) }
	server := func(name, ip string, weight int) string {
		if name != "" {
			name += "_"
		}
		return fmt.Sprintf("%s%s:%d %s:%d %d", name, ip, port, ip, port, weight)
	}
	w := nerveWorld{world: newWorld(t), dir: filepath.Join(t.TempDir(), "services")}
	w.h = newHost(t, w.reg)
	w.h.options.SynapseDir = w.dir
	w.h.options.Floor.Share = 1
	w.h.service("web.main", nil)
	w.h.start() // before the service's path is there

	const labels = `,"labels":{"region:west1":"","superregion:west":""}`
	w.node("h1_0000000000", at("127.0.0.1", `,"name":"h1","weight":7,"haproxy_server_options":"backup maxconn 9"`+labels))
	h1 := server("h1", "127.0.0.1", 7)
	w.servers("the first, with every field", h1)
	w.written("the first", fmt.Sprintf(`[{"name":"h1","host":"127.0.0.1","port":%d,"id":0,"weight":7,"haproxy_server_options":"backup maxconn 9","labels":{"region:west1":"","superregion:west":""}}]`, port))

	text := func(host, more string) string { return at(host, more+`,"labels":{"region:west1":""}`) }
	w.node("h2_x_0000000001", text("127.0.0.2", `,"name":"h2_x","weight":"3"`))
	w.node("h3_", text("127.0.0.3", `,"name":null,"weight":null,"haproxy_server_options":null`))
	w.node("h4_0000000003", strings.Replace(text("127.0.0.4", `,"name":"h4","weight":300,"new":{"a":[1]}`), fmt.Sprint(port), fmt.Sprintf(`"%d"`, port), 1))
	w.node("h5_0000000004", text("localhost.", `,"name":"h5 evil"`)) // bad
	w.node("h6_0000000005", `{"host":"127.0.0.6"}`)                  // bad
	w.node("h7_0000000006", `{"host":null,"port":1}`)                // bad
	w.node("h8_0000000007", "{\"host\":\"127.0.0.8\",\"port\":1,\"name\":\"a\nserver x\"}")
	w.node("h9_0000000008", text("127.0.0.9", `,"name":"h9","weight":0`)) // draining from the start
	p10 := text("127.0.0.10", `,"name":"h10"`)
	w.node(encoded(p10, 9), p10)
	w.node("h11_0000000010", text("127.0.0.11", `,"name":"h11"`))
	w.node("h11_0000000010/below", "x") // a node with children is one all the same
	w.node("h12_0000000011", text("127.0.0.12", ``))
	w.zk.Hide(nerveDir + "/h12_0000000011")
	w.node("h13_0000000012", at("127.0.0.13", `,"name":"h13","labels":{"region:east1":""}`)) // elsewhere
	all := []string{
		h1, server("h2_x", "127.0.0.2", 3), server("", "127.0.0.3", 10), server("h4", "127.0.0.4", 256),
		server("h10", "127.0.0.10", 10), server("h11", "127.0.0.11", 10),
	}
	w.servers("all forms", all...)
	eventually(t, func() error {
		s := w.h.agent.Status().Registrations[0]
		for _, n := range []string{"h5", "h6", "h7", "h8", "h12"} {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(s.Bad)), func(path string) bool { return strings.HasPrefix(path, nerveDir+"/"+n+"_") }) {
				return fmt.Errorf("%s is not called bad: %v", n, s.Bad)
			}
		}
		return nil
	})
	// Each value is as it was written, as in the original synapse's file, which
	// this is but for the order of its own.
	const here = `"labels":{"region:west1":""}}`
	w.written("all forms", fmt.Sprintf(`{"name":"h2_x","host":"127.0.0.2","port":%d,"id":1,"weight":"3","haproxy_server_options":null,`+here, port))
	w.written("all forms", fmt.Sprintf(`{"name":null,"host":"127.0.0.3","port":%d,"id":null,"weight":null,"haproxy_server_options":null,`+here, port))
	w.written("all forms", fmt.Sprintf(`{"name":"h4","host":"127.0.0.4","port":"%d","id":3,"weight":300,"haproxy_server_options":null,`+here, port))
	w.written("all forms", fmt.Sprintf(`{"name":"h10","host":"127.0.0.10","port":%d,"id":9,"weight":null,"haproxy_server_options":null,`+here, port))

	// Gone and there again under the same name, at once, with other data.
	w.delete("h2_x_0000000001")
	w.node("h2_x_0000000001", text("127.0.0.2", `,"name":"h2_y","weight":"4"`))
	all[1] = server("h2_y", "127.0.0.2", 4)
	w.servers("made again", all...)

	// Changed in place: nobody is told, and it is seen with the next change of
	// another (or a minute later).
	w.node("h11_0000000010", text("127.0.0.11", `,"name":"h11","weight":0`))
	w.node("h4_0000000003", text("127.0.0.14", `,"name":"h4"`))
	w.delete(encoded(p10, 9))
	all = []string{all[0], all[1], all[2], server("h4", "127.0.0.14", 10), server("h11", "127.0.0.11", 0)}
	w.servers("changed in place", all...)

	// The path of the service goes and comes again.
	if err := w.ops.Delete(t.Context(), nerveDir+"/h12_0000000011", -1); err != nil {
		t.Fatal(err)
	}
	w.delete("")
	eventually(t, func() error {
		if s := w.h.agent.Status().Registrations[0]; s.Held == 0 {
			return fmt.Errorf("nothing is held: %+v", s)
		}
		return nil
	})
	w.node("h1_0000000000", text("127.0.0.1", `,"name":"h1","weight":8`))
	w.servers("there again", server("h1", "127.0.0.1", 8))

	// A hundred at once, and all others in their place.
	large := func(from int) (names, want []string) {
		for i := range 100 {
			ip := fmt.Sprintf("127.0.%d.%d", from, i+1)
			names = append(names, fmt.Sprintf("c_%010d", from*1000+i))
			w.node(names[i], text(ip, `,"name":"c"`))
			want = append(want, server("c", ip, 10))
		}
		return names, want
	}
	one, _ := large(1)
	_, want := large(2)
	w.delete("h1_0000000000")
	for _, name := range one {
		w.delete(name)
	}
	w.servers("a hundred replaced", want...)
	if n := w.h.reloads(); n > 1 {
		t.Errorf("%d reloads: %s", n, w.h.agent.Status().HAProxy.LastReloadWhy)
	}
}

// The registry below a chroot is another one.
func TestChroot(t *testing.T) {
	w := newWorld(t)
	conn, err := zk.Dial(zk.Options{Servers: "zk://" + w.zk.Addr() + "/some/where", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	h := newHost(t, registry.NewZooKeeper(conn))
	h.service("web.main", nil)
	h.start() // before anything of it is there
	a, b := newBackend(t), newBackend(t)
	w.put("web.main", b.entry())
	eventually(t, func() error {
		return w.ops.Create(t.Context(), "/some/where"+nerveDir+"/h_0000000000", registry.Encode(a.entry()))
	})
	h.up("web.main", a.port)
}

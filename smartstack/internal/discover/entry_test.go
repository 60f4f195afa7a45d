package discover

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta/registry"
)

// Hosts may be names, as in nerve's own entries.
func TestEntriesByName(t *testing.T) {
	t.Parallel()
	answers := map[string]string{"db1.example": "10.0.0.1", "DB-2_x.example.": "10.0.0.2", "any": "0.0.0.0", "group": "224.0.0.1"}
	lookup := func(host string) (netip.Addr, error) {
		if a, ok := answers[host]; ok {
			return netip.ParseAddr(a)
		}
		return netip.Addr{}, errors.New("no such host")
	}
	for name, tt := range map[string]struct {
		host  string
		want  string // server name, or a part of what is wrong
		named bool
	}{
		"an address":               {"10.0.0.9", "n_10.0.0.9:80", false},
		"one of IPv6":              {"fd00::1", "n_fd00::1:80", false},
		"localhost":                {"localhost", "n_127.0.0.1:80", false},
		"a name":                   {"db1.example", "n_10.0.0.1:80", true},
		"a name of all characters": {"DB-2_x.example.", "n_10.0.0.2:80", true},
		"a name that is nobody's":  {"db9.example", `host "db9.example" has no address: no such host`, true},
		"a name of every address":  {"any", "0.0.0.0 is no address of a host", true},
		"a name of a group":        {"group", "224.0.0.1 is no address of a host", true},
		"an address gone wrong":    {"10.0.0.300", "is neither an IP address nor a name", false},
		"a number":                 {"7", "is neither an IP address nor a name", false},
		"nothing":                  {"", "is neither an IP address nor a name", false},
		"a dot":                    {".", "is neither an IP address nor a name", false},
		"an address with a port":   {"10.0.0.1:80", "is neither an IP address nor a name", false},
		"an address with a zone":   {"fe80::1%lo", "is no address of a host", false},
		"more than a name":         {"db1.example\n\tserver evil 6.6.6.6:80", "is neither an IP address nor a name", false},
		"a long label":             {strings.Repeat("a", 64) + ".example", "is neither an IP address nor a name", false},
		"a long name":              {strings.Repeat("a.", 130) + "example", "is neither an IP address nor a name", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := registry.Set{Nodes: []registry.Node{{Entry: registry.Entry{Host: tt.host, Port: 80, Name: "n", Weight: 10}, Path: "/z"}}}
			good, bad := Entries(set, lookup)
			got := ""
			for _, e := range good {
				got = e.Name
				if e.Named != tt.named {
					t.Errorf("named %v, want %v", e.Named, tt.named)
				}
			}
			if err := bad["/z"]; err != nil {
				got = err.Error()
			}
			if len(good)+len(bad) != 1 || !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if hosts := Hosts(set); (len(hosts) == 1 && hosts[0] == tt.host) != tt.named {
				t.Errorf("names to look up: %q", hosts)
			}
		})
	}
}

// A name that has no address is its own problem only, and is asked for once.
func TestABadNameLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	node := func(path, host string, czxid int64) registry.Node {
		return registry.Node{Entry: registry.Entry{Host: host, Port: 80, Name: path[1:], Weight: 10}, Path: path, Czxid: czxid}
	}
	set := registry.Set{Nodes: []registry.Node{node("/a", "nowhere", 1), node("/b", "10.0.0.1", 2), node("/c", "db", 3), node("/d", "db", 1), node("/e", "nowhere", 2)}}
	if diff := cmp.Diff([]string{"db", "nowhere"}, Hosts(set)); diff != "" {
		t.Errorf("names to look up (-want +got):\n%s", diff)
	}
	good, bad := Entries(set, func(host string) (netip.Addr, error) {
		if host == "db" { // the same host as one by address: the newest node wins
			return netip.MustParseAddr("10.0.0.1"), nil
		}
		return netip.Addr{}, errors.New("no such host")
	})
	if diff := cmp.Diff([]string{"/a", "/e"}, slices.Sorted(maps.Keys(bad))); diff != "" {
		t.Errorf("bad entries (-want +got):\n%s", diff)
	}
	if e := good[netip.MustParseAddrPort("10.0.0.1:80")]; len(good) != 1 || e.Node.Path != "/c" {
		t.Errorf("%+v", good)
	}
}

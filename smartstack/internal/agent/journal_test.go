package agent

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/resolver"
)

// What a journal reads is what was written last, whatever texts entries hold and
// wherever the last line ends.
func TestJournal(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 4000, time.UTC)
	j := journal{path: filepath.Join(t.TempDir(), "cache.json")}
	member := func(name string, missing time.Time) *discover.Member {
		node := &registry.Node{
			Entry: registry.Entry{Host: "10.0.0.1", Port: 80, Name: name, Weight: 7, Labels: map[string]string{"a": "", `b"\`: "ü"}, ServerOptions: "backup"},
			Path:  "/x/" + name, Czxid: 5,
		}
		return &discover.Member{Entry: discover.Entry{Node: node, Addr: netip.MustParseAddrPort("10.0.0.2:80"), Named: !missing.IsZero()}, Missing: missing}
	}
	want := func(entries ...string) map[string][]string {
		m := map[string][]string{}
		for _, e := range entries {
			name, list, _ := strings.Cut(e, ":")
			m[name] = strings.Fields(list)
		}
		return m
	}
	check := func(what string, broken bool, want map[string][]string) {
		t.Helper()
		all, err := j.read()
		if (err != nil) != broken {
			t.Errorf("%s: %v", what, err)
		}
		got := map[string][]string{}
		for name, line := range all {
			names := []string{}
			for _, e := range line.Entries {
				entry, err := registry.Decode(e.Entry)
				if err != nil {
					t.Error(err)
				}
				names = append(names, entry.Name)
			}
			got[name] = names
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("no file", false, want())
	if !j.full() {
		t.Error("a journal that was never written is added to")
	}
	members := func(names ...string) (all []*discover.Member) {
		for _, n := range names {
			all = append(all, member(n, time.Time{}))
		}
		return all
	}
	if err := j.write(at, map[string][]*discover.Member{"web.main": members("a", "b"), "api.main": members("c")}, true); err != nil {
		t.Fatal(err)
	}
	check("written", false, want("web.main:a b", "api.main:c"))
	if err := j.write(at, map[string][]*discover.Member{"web.main": {member("a", at)}, "api.main": nil}, false); err != nil {
		t.Fatal(err)
	}
	check("added", false, want("web.main:a", "api.main:"))
	all, _ := j.read()
	line := journalLine{"web.main", at, []journalMember{{
		Path: "/x/a", Entry: registry.Encode(member("a", at).Entry.Node.Entry), Czxid: 5, Missing: at, Addr: netip.MustParseAddr("10.0.0.2"),
	}}}
	if diff := cmp.Diff(line, all["web.main"], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const before = `{"registration":"old.main","at":"2026-11-22T01:02:03Z","entries":[{"host":"10.0.0.1","port":80,"weight":0,"czxid":5,"name":"before","labels":{"a":""}}]}`
	var old journalLine
	if err := json.Unmarshal([]byte(before), &old); err != nil {
		t.Fatal(err)
	}
	if e, err := registry.Decode(old.Entries[0].Entry); err != nil || e.Name != "before" || e.Weight != 0 || old.Entries[0].Czxid != 5 {
		t.Errorf("as it was written once: %+v, %v", e, err)
	}
	text, err := os.ReadFile(j.path)
	if err != nil || len(text) != j.size {
		t.Fatalf("%d bytes, want %d (%v)", len(text), j.size, err)
	}
	if err := os.WriteFile(j.path, text[:len(text)-30], 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := j.read(); err == nil || len(all) != 2 || len(all["web.main"].Entries) == 0 {
		t.Errorf("a file that ends within a line: %v, %v", all, err)
	}
	for !j.full() {
		if err := j.write(at, map[string][]*discover.Member{"web.main": members("a", "b")}, false); err != nil {
			t.Fatal(err)
		}
	}
}

// What the name of a node holds is not written again, and read from there.
func TestJournalOfPathEncodedNodes(t *testing.T) {
	t.Parallel()
	j := journal{path: filepath.Join(t.TempDir(), "cache.json")}
	e := registry.Entry{Host: "10.0.0.1", Port: 80, Name: "host1", Weight: 0, Labels: map[string]string{"region:west": ""}}
	node := &registry.Node{Entry: e, Path: registry.Root + "/web.main/" + registry.NodeName(e, 7)}
	m := &discover.Member{Entry: discover.Entry{Node: node, Addr: netip.MustParseAddrPort("10.0.0.1:80")}}
	if err := j.write(time.Now(), map[string][]*discover.Member{"web.main": {m}}, true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(j.path)
	if err != nil || strings.Contains(string(text), "10.0.0.1") {
		t.Errorf("%s, %v", text, err)
	}
	j.load(slog.New(slog.DiscardHandler))
	all := j.members("web.main", new(resolver.Cache)).All
	if got := all[netip.MustParseAddrPort("10.0.0.1:80")]; got == nil || cmp.Diff(e, got.Entry.Node.Entry) != "" {
		t.Errorf("read back: %+v", all)
	}
}

package haproxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	web := func(servers ...Server) Service { return plain("web.main", 20001, servers...) }
	leaving := server(1, 10)
	leaving.Leaving = true
	other := server(1, 10)
	other.Options.MaxConn = 5
	down := server(1, 10)
	down.Down = true
	static := web(server(1, 10))
	static.Balance = "static-rr"
	staticMore := web(server(1, 10), server(2, 10))
	staticMore.Balance = "static-rr"
	slower := web(server(1, 10))
	slower.TimeoutServer *= 2
	checked := web(server(1, 10))
	checked.Check.Port = 99
	tests := []struct {
		name      string
		old, want Service
		reload    []Reason
		commands  []string
		waiting   int
	}{
		{"nothing", web(server(1, 10)), web(server(1, 10)), nil, nil, 0},
		{"another order is nothing", web(server(1, 10), server(2, 10)), web(server(2, 10), server(1, 10)), nil, nil, 0},
		{"a new server", web(server(1, 10)), web(server(1, 10), server(2, 10)), nil, []string{"add web.main/host2_10.0.0.2:31000 weight 10"}, 0},
		{"a server goes", web(server(1, 10), server(2, 10)), web(server(1, 10)), nil, []string{"remove web.main/host2_10.0.0.2:31000 weight 10"}, 0},
		{"a drain", web(server(1, 10)), web(server(1, 0)), nil, []string{"weigh web.main/host1_10.0.0.1:31000 weight 0"}, 0},
		{"a server comes back while it is being deleted", web(leaving), web(server(1, 7)), nil, []string{"ready web.main/host1_10.0.0.1:31000 weight 7"}, 0},
		{"a server that leaves is left alone", web(leaving), web(), nil, nil, 0},
		{"it comes back with other options", web(leaving), web(other), nil, nil, 1},
		{"one of three has other options", web(server(1, 10), server(2, 10), server(3, 10)), web(other, server(2, 10), server(3, 10)), nil, []string{"remove web.main/host1_10.0.0.1:31000 weight 10"}, 1},
		{"the only one has other options", web(server(1, 10)), web(other), []Reason{{ServerOptions, "options of 1 of 1 servers of web.main changed"}}, nil, 1},
		{"structure", web(server(1, 10)), slower, []Reason{{ServiceChanged, "web.main changed"}}, nil, 0},
		{"what all server lines have in common", web(server(1, 10)), checked, []Reason{{ServiceChanged, "web.main changed"}}, nil, 0},
		{"a probe fails", web(server(1, 10)), web(down), nil, []string{"mark web.main/host1_10.0.0.1:31000 weight 10"}, 0},
		{"it passes again", web(down), web(server(1, 10)), nil, []string{"mark web.main/host1_10.0.0.1:31000 weight 10"}, 0},
		{"a new server whose probe fails", web(), web(down), nil, []string{"add web.main/host1_10.0.0.1:31000 weight 10", "mark web.main/host1_10.0.0.1:31000 weight 10"}, 0},
		{"no servers at run time", static, staticMore, []Reason{{BalanceIsStatic, "web.main changed, and balance static-rr takes no servers at run time"}}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Diff(NewSection(tt.old), NewSection(tt.want))
			var commands []string
			for _, c := range got.Commands {
				commands = append(commands, c.String())
			}
			if diff := cmp.Diff([]any{tt.reload, tt.commands, tt.waiting}, []any{got.Reload, commands, got.Waiting}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A HAProxy without servers at run time reloads for them, and for nothing else.
func TestChangeAtAVersion(t *testing.T) {
	t.Parallel()
	one := plain("web.main", 20001, server(1, 10))
	marked := plain("web.main", 20001, server(1, 10))
	marked.Backends[0].Servers[0].Down = true
	two := plain("web.main", 20001, server(1, 10), server(2, 10))
	for _, tt := range []struct {
		v      Version
		want   Service
		reload bool
	}{{Version{2, 6}, two, false}, {Version{2, 4}, two, true}, {Version{2, 4}, marked, false}, {Version{2, 4}, one, false}} {
		if c := Diff(NewSection(one), NewSection(tt.want)).At(tt.v, "web.main"); (len(c.Reload) > 0) != tt.reload {
			t.Errorf("%s: %+v", tt.v, c)
		}
	}
}

// Doing what Diff says leads to what is wanted, and then there is nothing more
// to do; and no order of Diff and deletion gets stuck.
func TestDiffConverges(t *testing.T) {
	t.Parallel()
	servers := func(t *rapid.T, name string, leaving bool) []Server {
		var all []Server
		for n := 1; n <= 6; n++ {
			if !rapid.Bool().Draw(t, fmt.Sprint(name, n)) {
				continue
			}
			s := server(n, rapid.IntRange(0, 3).Draw(t, "weight")*5)
			if rapid.IntRange(0, 5).Draw(t, "options") == 0 {
				s.Options.MaxConn = 3
			}
			s.Down = rapid.Bool().Draw(t, "down")
			s.Leaving = leaving && rapid.Bool().Draw(t, "leaving")
			all = append(all, s)
		}
		return all
	}
	rapid.Check(t, func(t *rapid.T) {
		running := plain("web.main", 20001, servers(t, "old", true)...)
		want := plain("web.main", 20001, servers(t, "want", false)...)
		for range 10 {
			c := Diff(NewSection(running), NewSection(want))
			if len(c.Reload) > 0 {
				return // from then on the file decides
			}
			for _, cmd := range c.Commands {
				at := slices.IndexFunc(running.Backends[0].Servers, func(s Server) bool { return s.Name == cmd.Server.Name })
				if cmd.Op != Mark && (cmd.Op == Add) != (at < 0) {
					t.Fatalf("%s, and HAProxy has %+v", cmd, running.Backends[0].Servers)
				}
			}
			running = Applied(running, c.Commands)
			if c.Empty() && c.Waiting == 0 {
				break
			}
			var reap []Command
			for _, s := range running.Backends[0].Servers {
				if s.Leaving {
					reap = append(reap, Command{Op: Delete, Backend: "web.main", Server: s})
				}
			}
			running = Applied(running, reap)
		}
		if c := Diff(NewSection(running), NewSection(want)); !c.Empty() {
			t.Fatalf("still to do: %+v", c)
		}
		if got, want := text(running), text(want); got != want {
			t.Fatalf("ended at\n%s\nwant\n%s", got, want)
		}
	})
}

func BenchmarkDiff(b *testing.B) {
	old, want := thousand().Services[500], thousand().Services[500]
	want.Backends[0].Servers[3].Weight = 0
	runs, should := NewSection(old), NewSection(want)
	for b.Loop() {
		if c := Diff(runs, should); len(c.Commands) != 1 {
			b.Fatalf("%+v", c)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add("# pxname,svname,status,weight,iid\na,b,UP,1,3\na,\"b\"\"\",UP,1,3\n\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		var rows table
		for line := range strings.Lines(text) {
			if rows.columns == nil {
				_ = rows.head([]byte(line))
			} else if r, ok := rows.row([]byte(line)); ok {
				_ = r.Check()
			}
			if s, ok := parseServerState(line); ok {
				CarryOver([]ServerState{s})
			}
		}
		parseInfo(text)
	})
}

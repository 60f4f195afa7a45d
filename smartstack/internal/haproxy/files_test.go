package haproxy

import (
	"testing"

	"pgregory.net/rapid"
)

func TestFitMaxConn(t *testing.T) {
	t.Parallel()
	section := func(servers int) []*Section {
		s := plain("svc.main", 20001)
		for range servers {
			s.Backends[0].Servers = append(s.Backends[0].Servers, server(1, 10))
		}
		return []*Section{NewSection(s)}
	}
	rapid.Check(t, func(t *rapid.T) {
		g := Global{MaxConn: rapid.IntRange(1, 20_000).Draw(t, "maxconn"), Files: rapid.IntRange(0, 60_000).Draw(t, "files")}
		servers := rapid.IntRange(0, 2000).Draw(t, "servers")
		custom := "listen mine\n\tbind 127.0.0.1:1\n\tserver a 127.0.0.1:2\n"
		n, needed := FitMaxConn(g, custom, section(servers))
		if want := Files(g.MaxConn, 3, servers+1); needed != want {
			t.Fatalf("needs %d files, want %d", needed, want)
		}
		switch {
		case g.Files == 0 || needed <= g.Files:
			if n != g.MaxConn {
				t.Fatalf("lowered to %d though %d files suffice", n, g.Files)
			}
		case n > 1 && Files(n, 3, servers+1) > g.Files:
			t.Fatalf("%d connections need %d files of %d", n, Files(n, 3, servers+1), g.Files)
		case n > 1 && n < g.MaxConn && Files(n+1, 3, servers+1) <= g.Files:
			t.Fatalf("%d connections would fit as well", n+1)
		case n < 1 || n > g.MaxConn:
			t.Fatalf("%d connections", n)
		}
	})
}

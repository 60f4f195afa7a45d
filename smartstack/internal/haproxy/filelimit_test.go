package haproxy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A HAProxy with 1,000 services of 10 servers that may open 20,000 files does not
// start with the default maxconn; with what FitMaxConn leaves of it, it does.
func TestHAProxyRefusesWhatDoesNotFit(t *testing.T) {
	if !paastatest.InNamespace(t) { // for 1,000 fixed ports
		return
	}
	prlimit, setpriv, binary := paastatest.Need(t, "prlimit"), paastatest.Need(t, "setpriv"), paastatest.Need(t, "haproxy")
	c := thousand()
	p := Process{Binary: filepath.Join(t.TempDir(), "haproxy"), Dir: t.TempDir()}
	const files = 20_000
	script := fmt.Sprintf("#!/bin/sh\nexec %s --nofile=%d:%d %s --bounding-set=-sys_resource --inh-caps=-sys_resource %s \"$@\"\n", prlimit, files, files, setpriv, binary)
	if err := os.WriteFile(p.Binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Global.Version, c.Global.Root = version(t, p), os.Geteuid() == 0
	c.Global.Socket, c.Global.StateFile = p.Socket(), p.StateFile()
	if err := os.WriteFile(p.StateFile(), CarryOver(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	start := func(global Global) error {
		c.Global = global
		if err := p.Write(Render(c)); err != nil {
			t.Fatal(err)
		}
		_, err := p.Start(t.Context(), 0)
		return err
	}
	unlimited, limited := c.Global, c.Global
	limited.Files = files
	if err := start(unlimited); err == nil || !strings.Contains(strings.ToLower(err.Error()), "fd limit") {
		t.Errorf("with maxconn %d in %d files: %v, want that it is refused for them", unlimited.MaxConn, files, err)
	}
	if err := start(limited); err != nil {
		t.Error(err)
	}
	info, err := p.Runtime().Info(t.Context())
	if err != nil || info.MaxConn < 2000 || info.MaxConn >= unlimited.MaxConn {
		t.Errorf("takes %d connections, %v", info.MaxConn, err)
	}
}

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

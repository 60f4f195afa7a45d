package agent

import (
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// Who waits for changes of a registration that HAProxy does not have, such as
// one that it refuses, costs HAProxy nothing.
func TestAWaitForWhatHAProxyDoesNotHaveIsFree(t *testing.T) {
	t.Parallel()
	h := newHost(t, newMemory())
	v := newView(h.options, nil, newMailbox())
	l, err := net.Listen("unix", filepath.Join(h.options.Process.Dir, "haproxy.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			asked.Add(1)
			c.Close()
		}
	}()
	v.pid, v.ids = 1, map[string]int{"api.main": 2}
	v.seen["web.main"] = seen{backends: []string{"web.main"}}
	answer, ok, _ := v.backends(t.Context(), "web.main")
	ctx, cancel := context.WithTimeout(t.Context(), 2*pollEvery+pollEvery/2)
	defer cancel()
	if _, ok2 := v.Backends(ctx, "web.main", answer.Generation); !ok || !ok2 {
		t.Error("web.main is not known")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("asked HAProxy %d times", n)
	}
}

package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func region(name string) func(*registry.Entry) {
	return func(e *registry.Entry) { e.Labels = map[string]string{"region:" + name: "", "superregion:west": ""} }
}

// What clients on this host do not discover is elsewhere: it is neither probed nor
// counted among what may serve, and comes and goes without being missed.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	here, there := newBackend(t), newBackend(t)
	wide := func(ns *soaconfig.Namespace) {
		ns.Advertise, ns.Discover = []string{"region", "superregion"}, "superregion"
	}
	h.service("web.main", nil)
	gone := region("west2")
	reg.put("web.main", here.entry(region("west1")), there.entry(gone))
	h.start()
	h.up("web.main", here.port)
	is := func(b *backend, status string, states map[string]int) {
		t.Helper()
		eventually(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			answer, _ := h.agent.Backends(ctx, "web.main", -1)
			found := "none"
			for _, x := range answer.Backends {
				if x.Port == b.port {
					found = x.Status
				}
			}
			s := h.agent.Status()
			if !strings.HasPrefix(found, status) || s.Registrations[0].Held > 0 || s.Problems["web.main"] != "" {
				return fmt.Errorf("status %s, want %s: %+v", found, status, s)
			}
			for state, n := range states {
				if s.Registrations[0].States[state] != n {
					return fmt.Errorf("%v, want %v", s.Registrations[0].States, states)
				}
			}
			return nil
		})
	}
	away := map[string]int{"elsewhere": 1, "probing": 0, "down": 0}
	is(there, paasta.BackendElsewhere, away)
	if n := there.checked.Load(); n > 0 {
		t.Errorf("it was probed %d times", n)
	}
	// It comes into sight, with the namespace and with its own labels, and goes again.
	stop := load(t, h.url("web.main"), 2)
	h.service("web.main", wide)
	h.up("web.main", here.port, there.port)
	is(there, "UP", map[string]int{"elsewhere": 0})
	h.service("web.main", nil)
	is(there, paasta.BackendElsewhere, away)
	reg.put("web.main", here.entry(region("west1")), there.entry(region("west1")))
	h.up("web.main", here.port, there.port)
	reg.put("web.main", here.entry(region("west1")), there.entry(gone))
	is(there, paasta.BackendElsewhere, away)
	sent, failures := stop()
	unharmed(t, sent, failures)

	// After a restart as well.
	h.stop()
	checked := there.checked.Load()
	h.start()
	h.up("web.main", here.port)
	is(there, paasta.BackendElsewhere, away)
	if n := there.checked.Load(); n != checked {
		t.Errorf("it was probed %d times", n-checked)
	}
}

// A registration without any entry says where it was looked for.
func TestNothingIsRegistered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := newHost(t, w.reg)
	a := newBackend(t)
	h.service("web.main", nil)
	// As a nerve does whose zk_path is another.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, path := range []string{"/production/services/web/services/host1_0000000001", "/smartstack/global/web.main/services/host1_0000000001"} {
		if err := w.ops.Put(ctx, path, []byte(`{"host":"127.0.0.1","port":80,"name":"host1"}`)); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	problem := func(want string) {
		t.Helper()
		eventually(t, func() error {
			if p := h.agent.Status().Problems["web.main"]; !strings.Contains(p, want) || (want == "") != (p == "") {
				return fmt.Errorf("%q, want %q", p, want)
			}
			return nil
		})
	}
	problem("looked at /smartstack/global/web.main in ZooKeeper")
	problem("nothing is an entry (1 left out)")
	w.put("web.main", a.entry(func(e *registry.Entry) { e.ServerOptions = "check port 80 maxconn 7 id 3 cookie a disabled" }))
	h.up("web.main", a.port)
	problem("")
	want := `check port 80 id 3 cookie a disabled`
	if got := h.agent.Status().Registrations[0].Ignored; got[want] != 1 {
		t.Errorf("left out: %v, want %q", got, want)
	}
}

// While the floor keeps servers, status says for how long.
func TestTheFloorSaysForHowLong(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	h.options.Floor.Window = 3 * time.Second
	h.service("web.main", nil)
	var all []*backend
	var entries []registry.Entry
	for range 5 {
		b := newBackend(t)
		all, entries = append(all, b), append(entries, b.entry())
	}
	reg.put("web.main", entries...)
	h.start()
	h.up("web.main", all[0].port, all[1].port, all[2].port, all[3].port, all[4].port)
	reg.put("web.main", entries[0])
	eventually(t, func() error {
		s := h.agent.Status().Registrations[0]
		if left := time.Until(s.HeldUntil); s.Held == 0 || left <= 0 || left > 3*time.Second {
			return fmt.Errorf("held %d, %s left", s.Held, left)
		}
		return nil
	})
	h.up("web.main", all[0].port)
	eventually(t, func() error { // the status follows HAProxy
		if s := h.agent.Status().Registrations[0]; s.Held != 0 || !s.HeldUntil.IsZero() {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

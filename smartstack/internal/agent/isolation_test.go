package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func TestABrokenNamespaceStaysAlone(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	a, b := newBackend(t), newBackend(t)
	h.service("web.main", nil)
	h.service("api.main", nil)
	reg.put("web.main", a.entry())
	reg.put("api.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	h.up("api.main", b.port)

	// One that does not translate, one whose port is taken, by a service and by
	// somebody else.
	h.service("api.main", func(ns *soaconfig.Namespace) { ns.Balance = "magic" })
	h.service("thief.main", func(ns *soaconfig.Namespace) { port := h.ports["web.main"]; ns.ProxyPort = &port })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.service("late.main", func(ns *soaconfig.Namespace) { port := l.Addr().(*net.TCPAddr).Port; ns.ProxyPort = &port })
	h.service("fine.main", nil)
	c := newBackend(t)
	reg.put("fine.main", c.entry())
	h.up("fine.main", c.port)
	eventually(t, func() error {
		p := h.agent.Status().Problems
		for name, want := range map[string]string{"api.main": `balance "magic" is not known`, "thief.main": "belongs to web.main", "late.main": "address already in use"} {
			if !strings.Contains(p[name], want) {
				return fmt.Errorf("%s: %q", name, p[name])
			}
		}
		return nil
	})
	// The broken one keeps its section, and its servers still come and go.
	reg.put("api.main", b.entry(), c.entry())
	h.up("api.main", b.port, c.port)
	h.up("web.main", a.port)
}

// A section that passes our own checks and not HAProxy's.
func TestASectionThatHAProxyRefuses(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	a, b := newBackend(t), newBackend(t)
	h.options.Settings.LogHTTP = `"%[nonsense"`
	h.options.Settings.LogTCP = ""
	h.service("web.main", nil)
	h.service("db.main", func(ns *soaconfig.Namespace) { ns.Mode, ns.HealthcheckMode = "tcp", "tcp" })
	reg.put("web.main", a.entry())
	reg.put("db.main", b.entry())
	h.start()
	h.up("db.main", b.port)
	if p := h.agent.Status().Problems["web.main"]; p == "" {
		t.Error("nobody says what is wrong with web.main")
	}
}

func TestAHostileRegistryAddsNothing(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	a := newBackend(t)
	h.service("web.main", nil)
	evil := "x\n\tserver evil 6.6.6.6:80\nlisten evil\n\tbind :666 ;shutdown sessions server web.main/a"
	reg.put("web.main",
		a.entry(func(e *registry.Entry) {
			e.Name, e.ServerOptions, e.Labels = evil, evil+" maxconn 9\n", map[string]string{"region:west1": "", evil: evil}
		}),
		registry.Entry{Host: evil, Port: 80, Weight: 10}, registry.Entry{Host: "10.0.0.1", Port: -1}, registry.Entry{Host: "10.0.0.1", Port: 70000},
	)
	h.start()
	h.up("web.main", a.port)
	eventually(t, func() error {
		text := h.config()
		if n := strings.Count(text, "\n\tserver "); n != 1 || strings.Contains(text, " 6.6.6.6") || strings.Contains(text, "\n\tbind :666") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	if s := h.agent.Status().Registrations[0]; len(s.Bad) == 0 {
		t.Errorf("no bad entries: %+v", s)
	}
}

func TestLocationFallback(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	near, far, alien := newBackend(t), newBackend(t), newBackend(t)
	h.service("web.main", func(ns *soaconfig.Namespace) { ns.Advertise = []string{"region", "superregion"} })
	labels := func(all ...string) func(*registry.Entry) {
		return func(e *registry.Entry) {
			e.Labels = map[string]string{}
			for _, l := range all {
				e.Labels[l] = ""
			}
		}
	}
	reg.put("web.main", near.entry(labels("region:west1", "superregion:west")), far.entry(labels("region:west2", "superregion:west")), alien.entry(labels("region:east1", "superregion:east")))
	h.start()
	h.up("web.main", near.port, far.port)
	stop := load(t, h.url("web.main"), 2)
	eventually(t, func() error {
		if near.served.Load() < 20 {
			return fmt.Errorf("%d requests", near.served.Load())
		}
		return nil
	})
	if n := far.served.Load(); n != 0 {
		t.Errorf("%d requests went to another region while ours was up", n)
	}
	reg.put("web.main", near.entry(labels("region:west1", "superregion:west"), weight(0)), far.entry(labels("region:west2", "superregion:west")))
	eventually(t, func() error {
		if far.served.Load() < 20 {
			return fmt.Errorf("%d requests to the other region", far.served.Load())
		}
		return nil
	})
	sent, failures := stop()
	unharmed(t, sent, failures)
	if alien.served.Load() != 0 {
		t.Error("a server that is not advertised here took traffic")
	}
}

func TestSoaConfigsThatVanishRemoveNothing(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	a := newBackend(t)
	h.service("web.main", nil)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	h.agent.Namespaces(&soaconfig.Tree{})
	eventually(t, func() error {
		if p := h.agent.Status().Problems["soa-configs"]; p == "" {
			return errors.New("no problem")
		}
		return nil
	})
	h.up("web.main", a.port)
}

// That they are empty is said for as long as they are, also when the last good ones
// are followed once more, for what an operator wrote.
func TestEmptySoaConfigsAreSaid(t *testing.T) {
	t.Parallel()
	h := newHost(t, newMemory())
	var failure atomic.Pointer[error]
	h.options.Custom = func() (string, error) {
		if err := failure.Load(); err != nil {
			return "", *err
		}
		return "", nil
	}
	h.service("web.main", nil)
	h.service("web.bad", func(ns *soaconfig.Namespace) { ns.Balance = "magic" })
	h.start()
	said := func(want ...string) {
		t.Helper()
		eventually(t, func() error {
			p := h.agent.Status().Problems
			delete(p, "web.main") // that nothing is registered
			if got := slices.Sorted(maps.Keys(p)); !slices.Equal(got, want) {
				return fmt.Errorf("problems: %v, want of %q", p, want)
			}
			return nil
		})
	}
	said("web.bad")
	h.agent.Namespaces(&soaconfig.Tree{})
	said("soa-configs", "web.bad")
	denied := errors.New("permission denied")
	failure.Store(&denied)
	said("custom_config", "soa-configs", "web.bad")
	h.agent.Namespaces(h.tree)
	said("custom_config", "web.bad")
}

// A service whose files vanish while its tasks are registered is served on; one
// that says itself that it has no such namespace is not.
func TestAServiceThatVanishesIsServedOn(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	a, b := newBackend(t), newBackend(t)
	h.service("web.main", nil)
	h.service("api.main", nil)
	reg.put("web.main", a.entry())
	reg.put("api.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	h.up("api.main", b.port)
	web := h.tree.Services["web"]
	h.agent.Namespaces(&soaconfig.Tree{Services: map[string]*soaconfig.Service{
		"web": {Name: "web"}, // without its smartstack.yaml
	}})
	eventually(t, func() error {
		for _, name := range []string{"web.main", "api.main"} {
			if p := h.agent.Status().Problems[name]; !strings.Contains(p, "smartstack.yaml is gone") {
				return fmt.Errorf("%s: %q", name, p)
			}
		}
		return nil
	})
	h.up("web.main", a.port)
	h.up("api.main", b.port)

	h.agent.Namespaces(&soaconfig.Tree{Services: map[string]*soaconfig.Service{
		"web": {Name: "web", Namespaces: soaconfig.Entries[soaconfig.Namespace]{File: web.Namespaces.File}},
	}})
	eventually(t, func() error {
		if strings.Contains(h.config(), "web.main") {
			return errors.New("web.main is still there")
		}
		return nil
	})
	h.up("api.main", b.port)
}

// A namespace with a new name takes its port along in one reload.
func TestARenamedNamespaceKeepsItsPort(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	a := newBackend(t)
	h.service("web.main", nil)
	reg.put("web.main", a.entry())
	reg.put("web.site", a.entry())
	h.start()
	h.up("web.main", a.port)
	before := h.reloads()
	port := h.ports["web.main"]
	h.ports["web.site"] = port
	h.tree = &soaconfig.Tree{Services: map[string]*soaconfig.Service{}}
	h.service("web.site", nil)
	h.up("web.site", a.port)
	if n := h.reloads() - before; n != 1 {
		t.Errorf("%d reloads", n)
	}
}

// A namespace that moves to a port which another process has stays where it is, and
// costs nobody a request: HAProxy is not even tried with it. It moves once the port
// is free.
func TestANamespaceThatMovesToATakenPort(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	a := newBackend(t)
	for _, name := range []string{"web.main", "fine.main"} {
		h.service(name, nil)
		reg.put(name, a.entry())
	}
	h.start()
	h.up("web.main", a.port)
	h.up("fine.main", a.port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	web, fine := load(t, h.url("web.main"), 2), load(t, h.url("fine.main"), 2)
	h.ports["web.main"] = l.Addr().(*net.TCPAddr).Port
	h.service("web.main", nil)
	eventually(t, func() error {
		if p := h.agent.Status().Problems["web.main"]; !strings.Contains(p, "address already in use") {
			return fmt.Errorf("problem: %q", p)
		}
		return nil
	})
	h.quiet()
	for _, stop := range []func() (int64, []string){web, fine} {
		sent, failures := stop()
		unharmed(t, sent, failures)
	}
	l.Close()
	h.agent.Namespaces(h.tree)
	eventually(t, func() error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", h.ports["web.main"]))
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// A namespace that gives its proxy_port away lets go of it, and is discovered on.
func TestAProxyPortThatIsTakenAway(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	a, b := newBackend(t), newBackend(t)
	h.service("web.main", nil)
	h.service("api.main", nil)
	reg.put("web.main", a.entry())
	reg.put("api.main", a.entry())
	reg.put("next.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	h.up("api.main", a.port)
	h.service("web.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	eventually(t, func() error {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", h.ports["web.main"])); err == nil {
			c.Close()
			return errors.New("its port is still open")
		}
		if strings.Contains(h.config(), "frontend web.main") {
			return errors.New("its frontend is still in the file")
		}
		return nil
	})
	h.up("api.main", a.port)
	port := h.ports["web.main"]
	h.service("next.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = &port })
	h.up("next.main", b.port)
	if p := h.agent.Status().Problems; len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
}

// A namespace that gets a proxy_port asks its servers first, though they were
// discovered long ago.
func TestAProxyPortThatIsGiven(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	h.service("late.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	a, sick := newBackend(t), newBackend(t)
	sick.sick.Store(true)
	reg.put("web.main", a.entry())
	reg.put("late.main", a.entry(), sick.entry())
	h.start()
	h.up("web.main", a.port)
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if answer, _ := h.agent.Backends(ctx, "late.main", -1); len(answer.Backends) != 2 {
			return fmt.Errorf("%+v", answer)
		}
		return nil
	})
	given := func() {
		h.service("late.main", nil)
		h.up("late.main", a.port)
		h.probing("late.main", sick.port, "503")
		if text := h.config(); strings.Contains(text, fmt.Sprintf("127.0.0.1:%d ", sick.port)) {
			t.Errorf("a server that never passed a probe is in the file:\n%s", text)
		}
	}
	given()
	h.service("late.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	eventually(t, func() error {
		if s := h.agent.Status().HAProxy; strings.Contains(h.config(), "late.main") || len(s.ReloadWanted) > 0 {
			return fmt.Errorf("it has a frontend: %+v", s)
		}
		return nil
	})
	h.stop() // and while there is no agent
	h.agent = nil
	h.service("late.main", nil)
	h.start()
	given()
}

package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/lastgood"
)

// soa is a directory of soa-configs that a host reads.
type soa struct {
	h         *host
	dir, good string
	marks     int
}

// newSoa makes soa-configs of namespaces named main, with ports of their own.
func newSoa(h *host, services ...string) *soa {
	h.t.Helper()
	s := &soa{h: h, dir: filepath.Join(h.t.TempDir(), "soa"), good: filepath.Join(h.t.TempDir(), "good")}
	for _, name := range services {
		for port := 0; h.ports[name+".main"] == 0; {
			port = freePort(h.t)
			taken := false
			for _, p := range h.ports {
				taken = taken || p == port
			}
			if !taken {
				h.ports[name+".main"] = port
			}
		}
		for file, text := range map[string]string{
			"smartstack.yaml": fmt.Sprintf("main:\n  proxy_port: %d\n  mode: http\n  timeout_server_ms: 5000\n  timeout_client_ms: 5000\n", h.ports[name+".main"]),
			"service.yaml":    "description: a service\n",
			"deploy.yaml":     "pipeline:\n- step: test.main\n",
		} {
			path := filepath.Join(s.good, name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				h.t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	s.repair()
	return s
}

// repair makes all files good again.
func (s *soa) repair() {
	s.h.t.Helper()
	paastatest.CopyTree(s.h.t, s.dir, s.good)
	s.read()
}

// read has the agent follow what the files say.
func (s *soa) read() {
	s.h.t.Helper()
	tree, err := soaconfig.Load(s.h.t.Context(), s.dir, soaconfig.Options{Clusters: []string{"test"}})
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.tree = tree
	if s.h.agent != nil {
		s.h.agent.Namespaces(tree)
	}
}

// followed waits until the agent has followed the last tree: one that also has a
// namespace which shows that.
func (s *soa) followed() {
	s.h.t.Helper()
	s.marks++
	name := fmt.Sprint("m", s.marks)
	tree := &soaconfig.Tree{Services: maps.Clone(s.h.tree.Services)}
	tree.Services["mark"] = &soaconfig.Service{Name: "mark", Namespaces: soaconfig.Entries[soaconfig.Namespace]{
		File: "mark/smartstack.yaml", Valid: map[string]soaconfig.Namespace{name: {Service: "mark", Name: name, Registered: true}},
	}}
	s.h.agent.Namespaces(tree)
	eventually(s.h.t, func() error {
		if !slices.ContainsFunc(s.h.agent.Status().Registrations, func(r RegistrationStatus) bool { return r.Name == "mark."+name }) {
			return fmt.Errorf("the tree has not been followed")
		}
		return nil
	})
}

// Whatever is wrong with the files of a service: the agent lives, and serves what
// it served; both that service and others lose no request.
func TestBadTreesHarmNobody(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	s := newSoa(h, "web", "fine")
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	reg.put("fine.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	h.up("fine.main", b.port)
	web, fine := load(t, h.url("web.main"), 1), load(t, h.url("fine.main"), 1)
	for _, bad := range paastatest.BadTrees("web", "smartstack.yaml", h.ports["web.main"]) {
		if err := bad.Break(s.dir); err != nil {
			t.Fatal(err)
		}
		if svc, err := soaconfig.LoadService(s.dir, "web", soaconfig.Options{}); err == nil && len(svc.Namespaces.Unreadable) == 0 && len(svc.Namespaces.Invalid["main"]) == 0 {
			if port := svc.Namespaces.Valid["main"].ProxyPort; port == nil || *port != h.ports["web.main"] {
				s.repair() // it is read, and says that web has another port or none: half of a number is one
				continue
			}
		}
		s.read()
		s.followed()
		if status := h.agent.Status(); len(status.Registrations) < 3 {
			t.Errorf("%s: it serves %+v", bad.Name, status.Registrations)
		}
		s.repair()
		s.followed()
	}
	sent, failures := web()
	unharmed(t, sent, failures)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		paastatest.Mutate(t, random, s.dir, "web", "test")
		s.read()
		s.followed()
		if random.IntN(3) == 0 {
			s.repair()
		}
	}
	s.repair()
	h.up("web.main", a.port)
	h.up("fine.main", b.port)
	sent, failures = fine()
	unharmed(t, sent, failures)
}

// An agent that starts while a namespace is broken serves it as the one before
// it did, and so it does after a reboot: with a HAProxy that runs or without.
func TestARestartDuringAMistakeChangesNothing(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	s := newSoa(h, "web", "fine")
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	reg.put("fine.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	stop := loadMixed(h, "web.main", 2)
	for _, bad := range paastatest.BadTrees("web", "smartstack.yaml", h.ports["web.main"]) {
		switch bad.Name {
		case "the file is an empty mapping": // it says that there is no such namespace
			continue
		case "the file is gone", "another service has its port", "the file is a list", "the file is null", "the file is wrong words", "the file is reserved keys",
			"the service is gone", "the file is an open quote", "the file is empty", "the file is a pipe":
		default:
			continue // the test before this one has them; a restart takes its time
		}
		// Before, and again: what has been restored once must be restored twice.
		if err := bad.Break(s.dir); err != nil {
			t.Fatal(err)
		}
		s.read()
		for range 2 {
			h.stop()
			h.start()
			h.up("web.main", a.port)
			eventually(t, func() error {
				status := h.agent.Status()
				if status.Problems["web.main"]+status.Problems["web"] == "" {
					return fmt.Errorf("%s: nobody says so: %v", bad.Name, status.Problems)
				}
				return nil
			})
			// Its servers still come and go.
			reg.put("web.main", a.entry(), b.entry())
			h.up("web.main", a.port, b.port)
			reg.put("web.main", a.entry())
			h.up("web.main", a.port)
		}
		s.repair()
	}
	sent, failures := stop()
	unharmed(t, sent, failures)

	// A reboot: neither HAProxy nor the agent is there, and the config is gone.
	for _, lost := range []string{"", "haproxy.cfg"} {
		h.stop()
		if err := h.options.Process.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lost != "" {
			if err := os.Remove(filepath.Join(h.options.Process.Dir, lost)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(s.dir, "web", "smartstack.yaml"), []byte("main: {mode: htpp"), 0o644); err != nil {
			t.Fatal(err)
		}
		s.read()
		h.start()
		h.up("web.main", a.port)
		h.up("fine.main", b.port)
		s.repair()
		eventually(t, func() error {
			if p := h.agent.Status().Problems; len(p) > 0 {
				return fmt.Errorf("problems: %v", p)
			}
			return nil
		})
	}
}

// Of two namespaces with one port the one that had it keeps it, in whatever order
// their names are, whoever restarts; when it gives the port up, the other gets it.
func TestAPortKeepsItsOwnerAcrossRestarts(t *testing.T) {
	t.Parallel()
	for _, newcomer := range []string{"aaa", "zzz"} {
		t.Run(newcomer, func(t *testing.T) {
			t.Parallel()
			reg := newMemory()
			h := newHost(t, reg)
			s := newSoa(h, "web", "fine")
			a, b := newBackend(t), newBackend(t)
			reg.put("web.main", a.entry())
			reg.put("fine.main", a.entry())
			reg.put(newcomer+".main", b.entry())
			h.start()
			h.up("web.main", a.port)
			stop := load(t, h.url("web.main"), 2)
			port := h.ports["web.main"]
			write(t, filepath.Join(s.dir, newcomer, "smartstack.yaml"), fmt.Sprintf("main: {proxy_port: %d}\n", port))
			s.read()
			for range 2 {
				s.followed()
				h.stop()
				h.start()
				h.up("web.main", a.port)
				s.followed()
				if p := h.agent.Status().Problems[newcomer+".main"]; !strings.Contains(p, fmt.Sprint(port)) {
					t.Errorf("of the newcomer it says %q", p)
				}
			}
			if n := b.served.Load(); n > 0 {
				t.Errorf("%d requests went to the newcomer", n)
			}
			sent, failures := stop()
			unharmed(t, sent, failures)
			h.ports[newcomer+".main"] = port
			write(t, filepath.Join(s.dir, "web", "smartstack.yaml"), "{}\n")
			s.read()
			h.up(newcomer+".main", b.port)
		})
	}
}

// Soa-configs that cannot be read when the agent starts are a mistake like others.
func TestAStartWithoutSoaConfigs(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	s := newSoa(h, "web", "fine")
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	h.stop()
	if err := h.options.Process.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.tree = nil
	h.start()
	h.agent.Unread(fmt.Errorf("there are none"))
	h.up("web.main", a.port)
	reg.put("web.main", a.entry(), b.entry())
	h.up("web.main", a.port, b.port)
	problem := func(want string) {
		t.Helper()
		eventually(t, func() error {
			if p := h.agent.Status().Problems["soa-configs"]; p != want {
				return fmt.Errorf("%q, want %q", p, want)
			}
			return nil
		})
	}
	problem("there are none")
	s.repair()
	problem("")
	h.up("web.main", a.port, b.port)
}

// A namespace that HAProxy refuses and our own checks do not is not what was last
// good.
func TestWhatHAProxyRefusedIsNotRestored(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	a := newBackend(t)
	h.service("web.main", nil)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	good := lastgood.File[goodNamespaces]{Path: filepath.Join(h.options.Process.Dir, "namespaces.json")}
	eventually(t, func() error {
		all, err := good.Read()
		if err != nil || len(all.Namespaces) != 1 {
			return fmt.Errorf("%v, %w", all, err)
		}
		return nil
	})
	h.service("web.main", func(ns *soaconfig.Namespace) { ns.Balance = "magic" })
	h.service("late.main", nil)
	reg.put("late.main", a.entry())
	h.up("late.main", a.port)
	h.stop()
	all, err := good.Read()
	if err != nil || len(all.Namespaces) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, ns := range all.Namespaces {
		if ns.Balance == "magic" {
			t.Errorf("restored: %+v", ns)
		}
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

package agent

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// collected reads one gauge of the agent that has no labels.
func collected(t *testing.T, a *Agent, name string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(a)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// What an operator wrote is in the config as it is; nobody touches its servers,
// and a mistake in it harms nothing else.
func TestOperatorsSections(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the operator's") }))
	defer own.Close()
	port := freePort(t)
	section := func(name string) string {
		return fmt.Sprintf("listen %s\n\tbind 127.0.0.1:%d\n\tmode tcp\n\tbalance roundrobin\n\tserver one %s\n\tserver two %s\n", name, port, own.Listener.Addr(), own.Listener.Addr())
	}
	var mu sync.Mutex
	text, readErr := section("mine"), error(nil)
	write := func(s string, err error) {
		mu.Lock()
		text, readErr = s, err
		mu.Unlock()
	}
	h.options.Custom = func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return text, readErr
	}
	h.service("web.main", nil)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	answers := func() error {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	eventually(t, answers)

	// The operator takes one of their own servers out by hand. Members of others
	// come and go, HAProxy is compared with what it should have, and theirs is
	// still as they left it.
	if _, err := h.options.Process.Runtime().Do(t.Context(), h.agent.Status().HAProxy.PID, "set server mine/one state maint"); err != nil {
		t.Fatal(err)
	}
	reg.put("web.main", a.entry(), b.entry())
	h.up("web.main", a.port, b.port)
	h.stop()
	h.start()
	h.up("web.main", a.port, b.port)
	reg.put("web.main", b.entry())
	h.up("web.main", b.port)
	out, err := h.options.Process.Runtime().Do(t.Context(), h.agent.Status().HAProxy.PID, "show stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(out[0], "\n") {
		if strings.HasPrefix(line, "mine,one,") && !strings.Contains(line, ",MAINT,") || strings.HasPrefix(line, "mine,two,") && strings.Contains(line, ",MAINT,") {
			t.Errorf("somebody changed an operator's server: %s", line)
		}
	}
	if n := h.reloads(); n != 0 {
		t.Errorf("%d reloads", n)
	}

	problem := func(want string) {
		t.Helper()
		eventually(t, func() error {
			if p := h.agent.Status().Problems["custom_config"]; !strings.Contains(p, want) || want == "" && p != "" {
				return fmt.Errorf("problem %q, want %q", p, want)
			}
			return nil
		})
	}
	// The tree's own reading tells that the agent has looked again.
	again := func() {
		t.Helper()
		c := newBackend(t)
		h.service(fmt.Sprintf("more%d.main", c.port), nil)
		reg.put(fmt.Sprintf("more%d.main", c.port), c.entry())
		h.up(fmt.Sprintf("more%d.main", c.port), c.port)
	}
	write("listen mine\n\tbind nonsense\n", nil)
	problem("nonsense")
	eventually(t, answers)
	again()
	problem("nonsense")
	settled := func() (reloads int) {
		eventually(t, func() error {
			if w := h.agent.Status().HAProxy.ReloadWanted; len(w) > 0 {
				return fmt.Errorf("a reload is wanted: %q", w)
			}
			return nil
		})
		return h.reloads()
	}
	before := settled()
	for range 3 { // what is refused is no reason for a reload each time it is read
		h.agent.Namespaces(h.tree)
		again := *h.tree
		h.tree = &again
	}
	reg.put("web.main", a.entry(), b.entry())
	h.up("web.main", a.port, b.port)
	reg.put("web.main", b.entry())
	h.up("web.main", b.port)
	if n := settled(); n != before {
		t.Errorf("%d reloads for sections that were refused already: %s", n-before, h.agent.Status().HAProxy.LastReloadWhy)
	}
	for _, broken := range []error{nil, errors.New("permission denied")} {
		mu.Lock()
		readErr = broken
		mu.Unlock()
		h.stop()
		h.start() // from what worked last
		h.up("web.main", b.port)
		again()
		eventually(t, answers)
	}
	problem("permission denied")
	write(section("renamed"), nil)
	problem("")
	eventually(t, func() error {
		if c := h.config(); !strings.Contains(c, "listen renamed\n") || strings.Contains(c, "listen mine\n") {
			return fmt.Errorf("%s", c)
		}
		return answers()
	})
	h.up("web.main", b.port)
}

// An operator's section that listens on the port of a service would get half of its
// requests, and HAProxy finds nothing wrong with that.
func TestOperatorsSectionsTakeNoPortOfAService(t *testing.T) {
	t.Parallel()
	reg := newMemory()
	h := newHost(t, reg)
	h.service("web.main", nil)
	var text atomic.Value
	text.Store("backend fine\n")
	h.options.Custom = func() (string, error) { return text.Load().(string), nil }
	a := newBackend(t)
	reg.put("web.main", a.entry())
	h.start()
	h.up("web.main", a.port)
	stop := load(t, h.url("web.main"), 4)
	thief := fmt.Sprintf("# mine\nfrontend mine\n\tmode http\n\tbind 127.0.0.1:%d # the service's\n", h.ports["web.main"])
	refused := func() {
		t.Helper()
		eventually(t, func() error {
			if p := h.agent.Status().Problems["custom_config"]; !strings.Contains(p, "line 4: bind 127.0.0.1:") || !strings.Contains(p, "web.main") {
				return fmt.Errorf("problem: %q", p)
			}
			return nil
		})
	}
	text.Store(thief)
	h.agent.Namespaces(h.tree)
	refused()
	if config := h.config(); !strings.Contains(config, "backend fine") {
		t.Errorf("the last good sections are gone:\n%s", config)
	}
	sent, failures := stop()
	unharmed(t, sent, failures)

	// So it is on a host that has never served.
	cold := newHost(t, reg)
	cold.options.Custom = h.options.Custom
	cold.service("web.main", nil)
	text.Store(fmt.Sprintf("\n\nfrontend mine\n\tbind 127.0.0.1:%d\n", cold.ports["web.main"]))
	h = cold
	h.start()
	refused()
	h.up("web.main", a.port)
}

// An operator's section that sends requests to a service of ours: when that is
// broken it is not the operator's fault, and when it goes it stays for as long
// as the section is there.
func TestOperatorsSectionsReferToAService(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	port := freePort(t)
	var mu sync.Mutex
	text := fmt.Sprintf("frontend mine\n\tbind 127.0.0.1:%d\n\tmode tcp\n\ttimeout client 5s\n\tuse_backend web.main # and not api.main\n", port)
	h.options.Custom = func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return text, nil
	}
	tcp := func(ns *soaconfig.Namespace) { ns.Mode, ns.HealthcheckMode = "tcp", "tcp" }
	h.options.Settings.LogHTTP = `"%[nonsense"` // so that every section of mode http is refused
	h.service("web.main", tcp)
	h.service("api.main", tcp)
	a, b := newBackend(t), newBackend(t)
	reg.put("web.main", a.entry())
	reg.put("api.main", b.entry())
	h.start()
	h.up("web.main", a.port)
	through := func() {
		t.Helper()
		eventually(t, func() error {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
	through()
	problems := func(want ...string) {
		t.Helper()
		eventually(t, func() error {
			p := h.agent.Status().Problems
			if len(p) != len(want)/2 || len(want) > 0 && !strings.Contains(p[want[0]], want[1]) {
				return fmt.Errorf("problems %q, want %q", p, want)
			}
			return nil
		})
	}
	more := func() {
		t.Helper()
		c := newBackend(t)
		name := fmt.Sprintf("more%d.main", c.port)
		h.service(name, tcp)
		reg.put(name, c.entry())
		h.up(name, c.port)
		through()
	}

	// Broken in a way that only HAProxy finds.
	h.service("web.main", nil)
	problems("web.main", "nonsense")
	more()
	h.service("web.main", tcp)
	problems()

	// Another namespace goes at once, this one stays.
	h.tree.Services["api"].Namespaces.Valid = nil
	h.service("web.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	problems("web.main", "custom_config refers to it")
	more()
	if strings.Contains(h.config(), "backend api.main") {
		t.Error("api.main is still there")
	}
	mu.Lock()
	text = "# web.main is gone\n"
	mu.Unlock()
	eventually(t, func() error {
		if strings.Contains(h.config(), "backend web.main") {
			h.agent.Namespaces(h.tree) // as the check does every half a minute
			return errors.New("web.main is still there")
		}
		return nil
	})
	problems()
}

// Files for other tools have the original synapse's keys, are left alone while
// nothing changes, and go with their registration.
func TestFilesForOtherTools(t *testing.T) {
	reg := newMemory()
	h := newHost(t, reg)
	dir := t.TempDir()
	h.options.SynapseDir = dir
	for _, name := range []string{"gone.main.json", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("[]"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.service("web.main", nil)
	h.service("api.main", nil)
	a, b := newBackend(t), newBackend(t)
	full := a.entry()
	full.ServerOptions = "maxconn 7"
	bare := b.entry()
	bare.Name, bare.Labels = "", nil
	reg.put("web.main", full)
	reg.put("api.main", bare)
	c := newBackend(t)
	far := c.entry()
	far.Labels = map[string]string{"region:west2": "", "superregion:west": ""}
	reg.put("wide.main", far)
	reg.put("hidden.main", a.entry(), far)
	h.service("wide.main", func(ns *soaconfig.Namespace) { ns.Advertise = []string{"region", "superregion"} })
	h.service("hidden.main", func(ns *soaconfig.Namespace) { ns.ProxyPort = nil })
	h.start()
	has := func(name, want string) {
		t.Helper()
		eventually(t, func() error {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(text) != want {
				return fmt.Errorf("%s: %w, want %s", text, err, want)
			}
			return nil
		})
	}
	has("web.main.json", fmt.Sprintf(`[{"name":"host1","host":"127.0.0.1","port":%d,"id":null,"weight":10,"haproxy_server_options":"maxconn 7","labels":{"region:west1":""}}]`, a.port))
	has("api.main.json", fmt.Sprintf(`[{"name":null,"host":"127.0.0.1","port":%d,"id":null,"weight":10,"haproxy_server_options":null,"labels":null}]`, b.port))
	// One file for each location, as synapse-tools have a service for each.
	has("wide.main.json", "[]")
	has("wide.main.superregion.json", fmt.Sprintf(`[{"name":"host1","host":"127.0.0.1","port":%d,"id":null,"weight":10,"haproxy_server_options":null,"labels":{"region:west2":"","superregion:west":""}}]`, c.port))
	has("hidden.main.json", fmt.Sprintf(`[{"name":"host1","host":"127.0.0.1","port":%d,"id":null,"weight":10,"haproxy_server_options":null,"labels":{"region:west1":""}}]`, a.port))
	eventually(t, func() error {
		entries, err := os.ReadDir(dir)
		if len(entries) != 6 { // those, and what is no file of ours
			return fmt.Errorf("%v %w", entries, err)
		}
		return nil
	})
	before, err := os.Stat(filepath.Join(dir, "api.main.json"))
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode() != 0o644 {
		t.Errorf("mode %s, want one that everybody may read", before.Mode())
	}
	full.Weight = 20
	reg.put("web.main", full)
	has("web.main.json", fmt.Sprintf(`[{"name":"host1","host":"127.0.0.1","port":%d,"id":null,"weight":20,"haproxy_server_options":"maxconn 7","labels":{"region:west1":""}}]`, a.port))
	after, err := os.Stat(filepath.Join(dir, "api.main.json"))
	if err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a file was written anew though nothing changed: %v", err)
	}
}

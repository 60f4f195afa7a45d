package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/printable"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
)

// view is what others may see of the agent, at any time.
type view struct {
	mu       sync.Mutex
	proxy    ProxyStatus
	problems map[string]string
	seen     map[string]seen // by registration
	ids      map[string]int  // HAProxy's numbers of backends
	pid      int
	changed  chan struct{} // closed and made anew when anything is published
	answers  map[string]paasta.AgentBackends
	counter  int64
	sweep    *sweep // the last one; nil: none of this process
	applied  map[string]int64
	held     map[string]bool // registrations with members that only checks can call down
}

// seen is one registration as Run left it.
type seen struct {
	status   RegistrationStatus
	version  int64
	stale    *time.Time
	backends []string
	members  []*discover.Member        // by name
	away     []discover.Entry          // those elsewhere, by name
	probes   map[netip.AddrPort]string // what probes that go on found last
	nodes    []registry.Node           // as the registry said last
	metrics  discover.Metrics
	hosts    []string // that entries give by name
}

// Status is everything that an agent knows about itself.
type Status struct {
	Registrations []RegistrationStatus `json:"registrations"`
	// Problems are the namespaces that are not served as soa-configs have them, or
	// that have nothing to serve, and what else is not as it should be.
	Problems map[string]string `json:"problems"`
	HAProxy  ProxyStatus       `json:"haproxy"`
}

// ProxyStatus is how HAProxy is.
type ProxyStatus struct {
	PID            int       `json:"pid"`
	MaxConn        int       `json:"maxconn,omitempty"` // that it was started with by this agent
	MaxConnWanted  int       `json:"maxconn_wanted"`    // smartstack.maxconn
	Version        string    `json:"version,omitempty"` // that is started; the one that runs may be from before an upgrade
	Processes      []int     `json:"processes"`         // old ones that finish their connections among them
	DynamicServers bool      `json:"dynamic_servers"`
	Reloads        int       `json:"reloads"`
	ReloadWanted   []string  `json:"reload_wanted,omitempty"` // why, while one is due
	ReloadError    string    `json:"reload_error,omitempty"`
	LastReload     time.Time `json:"last_reload,omitzero"`
	LastReloadWhy  string    `json:"last_reload_why,omitempty"`
	LastReloadTook string    `json:"last_reload_took,omitempty"`
	Leaving        []string  `json:"leaving,omitempty"` // servers that wait to be deleted
}

// RegistrationStatus is how one registration is.
type RegistrationStatus struct {
	Name       string            `json:"name"`
	Port       int               `json:"port,omitempty"`
	Version    int64             `json:"version"` // that the registry said last
	Applied    int64             `json:"applied"` // that HAProxy has
	Confirmed  bool              `json:"confirmed"`
	AgeSeconds float64           `json:"age_seconds"` // since the registry answered
	Error      string            `json:"error,omitempty"`
	Problem    string            `json:"problem,omitempty"`
	Held       int               `json:"held,omitempty"`
	HeldSince  time.Time         `json:"held_since,omitzero"`
	HeldUntil  time.Time         `json:"held_until,omitzero"` // when some of them may go; zero: once the registry has others, or checks call them down
	Why        string            `json:"why,omitempty"`       // servers are held
	States     map[string]int    `json:"states"`
	Bad        map[string]string `json:"bad,omitempty"` // znodes that are no entries
	// Ignored are what is left out of haproxy_server_options, and of how many
	// entries.
	Ignored map[string]int `json:"ignored_options,omitempty"`
	// Nothing says where entries were looked for, when there are none at all.
	Nothing string `json:"nothing,omitempty"`
	// Hosts are those that entries give by name.
	Hosts  map[string]HostStatus `json:"hosts,omitempty"`
	readAt time.Time
}

// HostStatus is what is known of a host that entries give by name.
type HostStatus struct {
	Addr string    `json:"addr,omitempty"` // in use; "" while there has never been one
	At   time.Time `json:"at,omitzero"`    // when it was looked up last with success
	// Error is why the last look-up failed; the last good address stays.
	Error string `json:"error,omitempty"`
}

func (v *view) init() {
	v.seen, v.answers, v.applied, v.held = map[string]seen{}, map[string]paasta.AgentBackends{}, map[string]int64{}, map[string]bool{}
	v.changed = make(chan struct{})
	v.counter = time.Now().UnixMilli() // so that it also grows from process to process
}

// Nodes returns the entries of all registrations as they were read last.
func (a *Agent) Nodes() map[string][]registry.Node {
	a.view.mu.Lock()
	defer a.view.mu.Unlock()
	nodes := make(map[string][]registry.Node, len(a.view.seen))
	for name, s := range a.view.seen {
		nodes[name] = s.nodes
	}
	return nodes
}

// forget drops what belonged to a process that is gone.
func (v *view) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ids, v.pid, v.sweep = nil, 0, nil
}

// publish lets others see what Run has done.
func (a *Agent) publish() {
	v := &a.view
	proxy := ProxyStatus{
		PID: a.hap.pid, Version: a.hap.version, MaxConn: a.hap.maxConn, MaxConnWanted: a.o.Global.MaxConn, DynamicServers: a.o.Global.Version.Dynamic(), Reloads: a.hap.reloads, ReloadWanted: a.hap.wishes.texts(), ReloadError: a.hap.lastErr,
		LastReload: a.hap.lastAt, LastReloadWhy: a.hap.lastWhy, Leaving: slices.Sorted(maps.Keys(a.hap.leaving)),
	}
	if a.hap.lastTook > 0 {
		proxy.LastReloadTook = a.hap.lastTook.Round(time.Millisecond).String()
	}
	problems := make(map[string]string, len(a.problems)+1)
	if a.treeErr != nil {
		problems["soa-configs"] = a.treeErr.Error()
	}
	if err := a.files.err(); err != nil {
		problems["state_dir"] = err.Error()
	}
	for name, err := range a.problems {
		problems[name] = err.Error()
	}
	versions := map[string]int64{}
	v.mu.Lock()
	v.proxy, v.problems, v.pid = proxy, problems, a.hap.pid
	gone := a.gone
	a.gone = nil
	for _, name := range gone {
		delete(v.seen, name)
		delete(v.answers, name)
		delete(v.applied, name)
		delete(v.held, name)
	}
	for r := range a.stirred {
		if r.touched {
			r.touched = false
			s := r.see()
			v.seen[r.name] = s
			delete(v.held, r.name)
			if s.status.Held > 0 {
				v.held[r.name] = true
			}
			if old, known := v.applied[r.name]; r.confirmed && (!known || old != r.applied) {
				v.applied[r.name], versions[r.name] = r.applied, r.applied
			}
		}
		if !r.dirty && !r.changed && len(r.health) == 0 {
			delete(a.stirred, r)
		}
	}
	close(v.changed)
	v.changed = make(chan struct{})
	v.mu.Unlock()
	if len(versions)+len(gone) > 0 && a.o.Applied != nil {
		a.o.Applied(versions, gone)
	}
}

func (r *registration) status() RegistrationStatus {
	s := RegistrationStatus{
		Name: r.name, Port: r.namespace.Port, Version: r.set.Version, Applied: r.applied, Confirmed: r.confirmed, Error: r.readErr, Problem: r.problem, Why: r.why,
		readAt: r.readAt,
	}
	if s.Held, s.HeldSince = r.members.Held(); s.Held > 0 {
		s.HeldUntil = r.again
	}
	if len(r.bad) > 0 {
		s.Bad = map[string]string{}
		for path, err := range r.bad {
			s.Bad[printable.Line(path, longestText)] = printable.Line(err.Error(), longestText)
		}
	}
	s.Ignored = ignored(r.set.Nodes)
	if r.proxied && r.confirmed && len(r.set.Nodes) == 0 && len(r.members.All) == 0 {
		s.Nothing = "nothing is registered: looked at " + registry.Root + "/" + r.name + " in ZooKeeper, below the root that zookeeper names if it does"
		if len(r.bad) > 0 {
			s.Nothing += fmt.Sprintf("; of what is there nothing is an entry (%d left out)", len(r.bad))
		}
	}
	return s
}

// What is shown of texts that znodes hold is bounded: the length of each, and how
// many different ones of a kind.
const (
	longestText = 200
	mostTexts   = 20
)

// ignored counts what is left out of the nodes' haproxy_server_options.
func ignored(nodes []registry.Node) map[string]int {
	var all map[string]int
	for _, n := range nodes {
		if n.ServerOptions == "" {
			continue
		}
		words := discover.Ignored(n.ServerOptions)
		if len(words) == 0 {
			continue
		}
		text := printable.Line(strings.Join(words, " "), longestText)
		if all[text] == 0 && len(all) == mostTexts {
			text = "others"
		}
		if all == nil {
			all = map[string]int{}
		}
		all[text]++
	}
	return all
}

func (r *registration) see() seen {
	s := seen{status: r.status(), version: r.applied, nodes: r.set.Nodes, metrics: r.namespace.Metrics, hosts: r.hosts}
	if r.readErr != "" || !r.confirmed {
		at := r.readAt
		s.stale = &at
	}
	for _, b := range r.namespace.Service.Backends {
		s.backends = append(s.backends, b.Name)
	}
	s.away = r.elsewhere
	s.members = slices.SortedFunc(maps.Values(r.members.All), func(a, b *discover.Member) int { return strings.Compare(a.Entry.Name, b.Entry.Name) })
	for addr, p := range r.probing {
		if s.probes == nil {
			s.probes = map[netip.AddrPort]string{}
		}
		s.probes[addr] = p.err
	}
	return s
}

// unproven tells whether a member has not passed a probe yet.
func unproven(m *discover.Member) bool { return !m.Serving || m.Unproven }

// Status returns what the agent knows about itself now.
func (a *Agent) Status() Status {
	a.view.mu.Lock()
	status := Status{Registrations: []RegistrationStatus{}, Problems: maps.Clone(a.view.problems), HAProxy: a.view.proxy}
	all := maps.Clone(a.view.seen)
	a.view.mu.Unlock()
	servers := map[string][]sweptServer{}
	if len(all) > 0 {
		if s, err := a.swept(context.Background()); err == nil { // else none is known to be up
			servers = s.servers
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name].status
		if !r.readAt.IsZero() {
			r.AgeSeconds = time.Since(r.readAt).Seconds()
		}
		r.States = states(all[name], servers)
		r.Hosts = a.hosts(all[name].hosts)
		if status.Problems == nil {
			status.Problems = map[string]string{}
		}
		if r.Nothing != "" && status.Problems[name] == "" {
			status.Problems[name] = r.Nothing
		}
		status.Registrations = append(status.Registrations, r)
	}
	status.HAProxy.Processes = a.o.Process.All()
	return status
}

// hosts says what is known of names; nil for none.
func (a *Agent) hosts(hosts []string) map[string]HostStatus {
	if len(hosts) == 0 {
		return nil
	}
	all := make(map[string]HostStatus, len(hosts))
	for _, host := range hosts {
		known := a.names.Answer(host)
		s := HostStatus{At: known.At}
		if known.Addr.IsValid() {
			s.Addr = known.Addr.String()
		}
		if known.Err != nil {
			s.Error = known.Err.Error()
		}
		all[host] = s
	}
	return all
}

// pollEvery is how often HAProxy is asked while somebody waits for a change.
const pollEvery = 50 * time.Millisecond

// Backends returns the backends of a registration; ok is false when this host
// does not serve it. It waits until the answer's generation is beyond after, but
// not longer than ctx lasts.
func (a *Agent) Backends(ctx context.Context, name string, after int64) (answer paasta.AgentBackends, ok bool) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		answer, ok, changed := a.backends(context.WithoutCancel(ctx), name)
		if !ok || answer.Generation > after {
			return answer, ok
		}
		select {
		case <-ctx.Done():
			return answer, true
		case <-changed:
		case <-ticker.C:
		}
	}
}

func (a *Agent) backends(ctx context.Context, name string) (answer paasta.AgentBackends, ok bool, changed <-chan struct{}) {
	a.view.mu.Lock()
	s, ok := a.view.seen[name]
	changed, ids, pid := a.view.changed, a.view.ids, a.view.pid
	a.view.mu.Unlock()
	if !ok {
		return answer, false, changed
	}
	byName := a.rowsOf(ctx, s, ids, pid)
	answer = paasta.AgentBackends{Registration: name, Version: s.version, StaleSince: s.stale, Backends: []paasta.AgentBackend{}}
	if answer.StaleSince == nil && a.o.Connected != nil && !a.o.Connected() {
		answer.StaleSince = &s.status.readAt
	}
	for _, m := range s.members {
		e := m.Entry
		b := paasta.AgentBackend{
			Name: e.Name, Host: e.Node.Host, Port: int(e.Addr.Port()), TaskID: e.Node.Labels[registry.LabelTaskID], Weight: e.Weight,
			Status: "PROBING", LastCheck: s.probes[e.Addr], Since: m.Since,
		}
		if row, ok := byName[e.Name]; ok && !unproven(m) {
			b.Status, b.Up, b.LastCheck, b.Sessions = row.Status, row.Up(), row.Check(), row.Sessions
		}
		answer.Backends = append(answer.Backends, b)
	}
	for _, e := range s.away {
		answer.Backends = append(answer.Backends, paasta.AgentBackend{
			Name: e.Name, Host: e.Node.Host, Port: int(e.Addr.Port()), TaskID: e.Node.Labels[registry.LabelTaskID], Weight: e.Weight, Status: paasta.BackendElsewhere,
		})
	}
	a.view.mu.Lock()
	defer a.view.mu.Unlock()
	last, known := a.view.answers[name]
	if !known || !same(last, answer) {
		a.view.counter++
		answer.Generation = a.view.counter
		a.view.answers[name] = answer
	} else {
		answer.Generation = last.Generation
	}
	return answer, true, changed
}

// same tells whether two answers differ in nothing that somebody would wait
// for.
func same(a, b paasta.AgentBackends) bool {
	strip := func(x paasta.AgentBackends) paasta.AgentBackends {
		x.Generation = 0
		x.Backends = slices.Clone(x.Backends)
		for i := range x.Backends {
			x.Backends[i].Sessions, x.Backends[i].LastCheck = 0, ""
		}
		return x
	}
	return reflect.DeepEqual(strip(a), strip(b))
}

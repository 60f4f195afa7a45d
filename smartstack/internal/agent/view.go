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
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/resolver"
)

// A view is what others may see of the agent, at any time. Run publishes to it; its
// other methods are called by whoever asks.
type view struct {
	runtime   *haproxy.Runtime
	process   haproxy.Process
	connected func() bool // nil: unknown
	resolver  *resolver.Cache
	events    *mailbox
	began     time.Time
	scanning  sync.Mutex // only one scan at a time

	mu       sync.Mutex
	proxy    ProxyStatus
	problems map[string]string
	seen     map[string]seen // by registration
	ids      map[string]int  // HAProxy's numbers of backends
	pid      int
	changed  chan struct{} // closed and made anew when anything is published
	answers  map[string]paasta.AgentBackends
	counter  int64
	scan     *scan // the last one; nil: none of this process
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

func newView(o Options, names *resolver.Cache, events *mailbox) *view {
	return &view{
		runtime: o.Process.Runtime(), process: o.Process, connected: o.Connected, resolver: names, events: events, began: time.Now(),
		seen: map[string]seen{}, answers: map[string]paasta.AgentBackends{}, applied: map[string]int64{}, held: map[string]bool{},
		changed: make(chan struct{}),
		counter: time.Now().UnixMilli(), // so that it also grows from process to process
	}
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

// Nodes returns the entries of all registrations as they were read last.
func (v *view) Nodes() map[string][]registry.Node {
	v.mu.Lock()
	defer v.mu.Unlock()
	nodes := make(map[string][]registry.Node, len(v.seen))
	for name, s := range v.seen {
		nodes[name] = s.nodes
	}
	return nodes
}

// newProcess drops what belonged to a process that is gone.
func (v *view) newProcess() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ids, v.pid, v.scan = nil, 0, nil
}

// reloaded notes a reload.
func (v *view) reloaded(why string, at time.Time, took time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.proxy.Reloads++
	v.proxy.LastReload, v.proxy.LastReloadWhy, v.proxy.LastReloadTook = at, why, took.Round(time.Millisecond).String()
}

// publish shows what Run has done, and returns the registrations that HAProxy has up
// to another version.
func (v *view) publish(a *Agent) (versions map[string]int64) {
	p := a.proxy
	leaving := slices.Sorted(maps.Keys(p.leaving))
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
	versions = map[string]int64{}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.proxy.PID, v.proxy.Version, v.proxy.MaxConn, v.proxy.MaxConnWanted, v.proxy.DynamicServers = p.pid, p.version, p.maxConn, p.global.MaxConn, p.global.Version.Dynamic()
	v.proxy.ReloadWanted, v.proxy.ReloadError, v.proxy.Leaving = a.pending.texts(), a.pending.err, leaving
	v.problems, v.pid = problems, p.pid
	for _, name := range a.dropped {
		delete(v.seen, name)
		delete(v.answers, name)
		delete(v.applied, name)
		delete(v.held, name)
	}
	for r := range a.touched {
		s := r.see(problems[r.name])
		v.seen[r.name] = s
		delete(v.held, r.name)
		if s.status.Held > 0 {
			v.held[r.name] = true
		}
		if old, known := v.applied[r.name]; r.answer.known() && (!known || old != r.applied) {
			v.applied[r.name], versions[r.name] = r.applied, r.applied
		}
	}
	close(v.changed)
	v.changed = make(chan struct{})
	return versions
}

func (r *registration) status(problem string) RegistrationStatus {
	s := RegistrationStatus{
		Name: r.name, Port: r.namespace.Port, Version: r.answer.set.Version, Applied: r.applied, Confirmed: r.answer.known(), Error: r.answer.err, Problem: problem, Why: r.desired.why,
		readAt: r.answer.at, Ignored: ignored(r.answer.set.Nodes),
	}
	if s.Held, s.HeldSince = r.members.Held(); s.Held > 0 {
		s.HeldUntil = r.desired.again
	}
	bad := r.desired.bad
	if len(bad) > 0 {
		s.Bad = map[string]string{}
		for path, err := range bad {
			s.Bad[printable.Line(path, longestText)] = printable.Line(err.Error(), longestText)
		}
	}
	if r.namespace.Proxied() && r.answer.known() && len(r.answer.set.Nodes) == 0 && len(r.members.All) == 0 {
		s.Nothing = "nothing is registered: looked at " + registry.Root + "/" + r.name + " in ZooKeeper, below the root that zookeeper names if it does"
		if len(bad) > 0 {
			s.Nothing += fmt.Sprintf("; of what is there nothing is an entry (%d left out)", len(bad))
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

func (r *registration) see(problem string) seen {
	s := seen{
		status: r.status(problem), version: r.applied, nodes: r.answer.set.Nodes, metrics: r.namespace.Metrics, hosts: r.answer.hosts, away: r.desired.elsewhere,
		members: slices.SortedFunc(maps.Values(r.members.All), func(a, b *discover.Member) int { return strings.Compare(a.Entry.Name, b.Entry.Name) }),
	}
	if r.answer.err != "" || !r.answer.known() {
		at := r.answer.at
		s.stale = &at
	}
	for _, b := range r.namespace.Service.Backends {
		s.backends = append(s.backends, b.Name)
	}
	for addr, p := range r.probes {
		if s.probes == nil {
			s.probes = map[netip.AddrPort]string{}
		}
		s.probes[addr] = p.err
	}
	return s
}

// Status returns what the agent knows about itself now.
func (v *view) Status() Status {
	v.mu.Lock()
	status := Status{Registrations: []RegistrationStatus{}, Problems: maps.Clone(v.problems), HAProxy: v.proxy}
	all := maps.Clone(v.seen)
	v.mu.Unlock()
	servers := map[string][]scannedServer{}
	if len(all) > 0 {
		if s, err := v.scanned(context.Background()); err == nil { // else none is known to be up
			servers = s.servers
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name].status
		if !r.readAt.IsZero() {
			r.AgeSeconds = time.Since(r.readAt).Seconds()
		}
		r.States = states(all[name], servers)
		r.Hosts = v.hosts(all[name].hosts)
		if status.Problems == nil {
			status.Problems = map[string]string{}
		}
		if r.Nothing != "" && status.Problems[name] == "" {
			status.Problems[name] = r.Nothing
		}
		status.Registrations = append(status.Registrations, r)
	}
	status.HAProxy.Processes = v.process.All()
	return status
}

// hosts says what is known of names; nil for none.
func (v *view) hosts(hosts []string) map[string]HostStatus {
	if len(hosts) == 0 {
		return nil
	}
	all := make(map[string]HostStatus, len(hosts))
	for _, host := range hosts {
		known := v.resolver.Answer(host)
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
func (v *view) Backends(ctx context.Context, name string, after int64) (answer paasta.AgentBackends, ok bool) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		answer, ok, changed := v.backends(context.WithoutCancel(ctx), name)
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

func (v *view) backends(ctx context.Context, name string) (answer paasta.AgentBackends, ok bool, changed <-chan struct{}) {
	v.mu.Lock()
	s, ok := v.seen[name]
	changed, ids, pid := v.changed, v.ids, v.pid
	v.mu.Unlock()
	if !ok {
		return answer, false, changed
	}
	byName := v.rowsOf(ctx, s, ids, pid)
	answer = paasta.AgentBackends{Registration: name, Version: s.version, StaleSince: s.stale, Backends: []paasta.AgentBackend{}}
	if answer.StaleSince == nil && v.connected != nil && !v.connected() {
		answer.StaleSince = &s.status.readAt
	}
	if answer.StaleSince != nil && answer.StaleSince.IsZero() {
		answer.StaleSince = &v.began // it has never answered this process
	}
	for _, m := range s.members {
		e := m.Entry
		b := paasta.AgentBackend{
			Name: e.Name, Host: e.Node.Host, Port: int(e.Addr.Port()), TaskID: e.Node.Labels[registry.LabelTaskID], Weight: e.Weight,
			Status: "PROBING", LastCheck: s.probes[e.Addr], Since: m.Since,
		}
		if row, ok := byName[e.Name]; ok && m.Verified() {
			b.Status, b.Up, b.LastCheck, b.Sessions = row.Status, row.Up(), row.Check(), row.Sessions
		}
		answer.Backends = append(answer.Backends, b)
	}
	for _, e := range s.away {
		answer.Backends = append(answer.Backends, paasta.AgentBackend{
			Name: e.Name, Host: e.Node.Host, Port: int(e.Addr.Port()), TaskID: e.Node.Labels[registry.LabelTaskID], Weight: e.Weight, Status: paasta.BackendElsewhere,
		})
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	last, known := v.answers[name]
	if !known || !same(last, answer) {
		v.counter++
		answer.Generation = v.counter
		v.answers[name] = answer
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

// Labels are what the registry says about a server, for those who count.
type Labels struct {
	Version  string // git sha
	Instance string
	TaskID   string
	Host     string // as registered
	Addr     netip.AddrPort
}

// Labels returns the servers of a registration by HAProxy's name for them, and
// what the namespace says about metrics. ok is false when there is no such
// registration on this host.
func (v *view) Labels(registration string) (servers map[string]Labels, metrics discover.Metrics, ok bool) {
	v.mu.Lock()
	s, ok := v.seen[registration] // replaced, never changed
	v.mu.Unlock()
	if !ok {
		return nil, discover.Metrics{}, false
	}
	servers = make(map[string]Labels, len(s.members))
	for _, m := range s.members {
		n := m.Entry.Node
		servers[m.Entry.Name] = Labels{
			Version: n.Labels[registry.LabelGitSHA], Instance: n.Labels[registry.LabelInstance], TaskID: n.Labels[registry.LabelTaskID], Host: n.Host, Addr: m.Entry.Addr,
		}
	}
	return servers, s.metrics, true
}

// Measured lists the registrations whose namespace says where its tasks show
// their metrics.
func (v *view) Measured() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var names []string
	for name, s := range v.seen {
		if s.metrics.URI != "" {
			names = append(names, name)
		}
	}
	return names
}

// Info asks HAProxy about itself.
func (v *view) Info(ctx context.Context) (haproxy.Info, error) { return v.runtime.Info(ctx) }

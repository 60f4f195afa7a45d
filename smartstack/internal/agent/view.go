package agent

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
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
	rows     map[string][]haproxy.Row // by backend, of the last sweep
	queues   map[string]int           // requests that wait, by backend, of the last sweep
	applied  map[string]int64
}

// seen is one registration as Run left it.
type seen struct {
	status   RegistrationStatus
	version  int64
	stale    *time.Time
	backends []string
	members  []seenMember
	nodes    []registry.Node // as the registry said last
	metrics  discover.Metrics
	hosts    []string // that entries give by name
}

type seenMember struct {
	name, host, task  string
	version, instance string // labels
	addr              netip.AddrPort
	port, weight      int
	probing           bool
	err               string
	since             time.Time
}

// Status is everything that an agent knows about itself.
type Status struct {
	Registrations []RegistrationStatus `json:"registrations"`
	// Problems are the namespaces that are not served as soa-configs have them.
	Problems map[string]string `json:"problems"`
	HAProxy  ProxyStatus       `json:"haproxy"`
}

// ProxyStatus is how HAProxy is.
type ProxyStatus struct {
	PID            int       `json:"pid"`
	Processes      []int     `json:"processes"` // old ones that finish their connections among them
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
	Why        string            `json:"why,omitempty"` // servers are held
	States     map[string]int    `json:"states"`
	Bad        map[string]string `json:"bad,omitempty"` // znodes that are no entries
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
	v.seen, v.answers, v.applied = map[string]seen{}, map[string]paasta.AgentBackends{}, map[string]int64{}
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
	v.ids, v.pid, v.rows, v.queues = nil, 0, nil, nil
}

// publish lets others see what Run has done.
func (a *Agent) publish() {
	v := &a.view
	proxy := ProxyStatus{
		PID: a.hap.pid, DynamicServers: a.hap.dynamic, Reloads: a.hap.reloads, ReloadWanted: a.hap.wishes.texts(), ReloadError: a.hap.lastErr,
		LastReload: a.hap.lastAt, LastReloadWhy: a.hap.lastWhy, Leaving: slices.Sorted(maps.Keys(a.hap.leaving)),
	}
	if a.hap.lastTook > 0 {
		proxy.LastReloadTook = a.hap.lastTook.Round(time.Millisecond).String()
	}
	problems := make(map[string]string, len(a.conflicts))
	for name, err := range a.conflicts {
		problems[name] = err.Error()
	}
	news := false
	v.mu.Lock()
	v.proxy, v.problems, v.pid = proxy, problems, a.hap.pid
	for name := range v.seen {
		if a.registrations[name] == nil {
			delete(v.seen, name)
			delete(v.answers, name)
			delete(v.applied, name)
			news = true
		}
	}
	for name, r := range a.registrations {
		if !r.touched {
			continue
		}
		r.touched = false
		v.seen[name] = r.see()
		if old, known := v.applied[name]; r.confirmed && (!known || old != r.applied) {
			v.applied[name] = r.applied
			news = true
		}
	}
	applied := maps.Clone(v.applied)
	close(v.changed)
	v.changed = make(chan struct{})
	v.mu.Unlock()
	if news && a.o.Applied != nil {
		a.o.Applied(applied)
	}
}

func (r *registration) status() RegistrationStatus {
	s := RegistrationStatus{
		Name: r.name, Port: r.namespace.Port, Version: r.set.Version, Applied: r.applied, Confirmed: r.confirmed, Error: r.readErr, Problem: r.problem, Why: r.why,
		readAt: r.readAt,
	}
	s.Held, s.HeldSince = r.members.Held()
	if len(r.bad) > 0 {
		s.Bad = map[string]string{}
		for path, err := range r.bad {
			s.Bad[path] = err.Error()
		}
	}
	return s
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
	for _, m := range r.members.All {
		e := m.Entry
		member := seenMember{
			name: e.Name, host: e.Node.Host, addr: e.Addr, port: int(e.Addr.Port()), weight: e.Weight, task: e.Node.Labels[registry.LabelTaskID],
			version: e.Node.Labels[registry.LabelGitSHA], instance: e.Node.Labels[registry.LabelInstance],
			probing: !m.Serving || m.Unproven, since: m.Since,
		}
		if p := r.probing[e.Addr]; p != nil {
			member.err = p.err
		}
		s.members = append(s.members, member)
	}
	slices.SortFunc(s.members, func(a, b seenMember) int { return strings.Compare(a.name, b.name) })
	return s
}

// Status returns what the agent knows about itself now.
func (a *Agent) Status() Status {
	a.view.mu.Lock()
	status := Status{Registrations: []RegistrationStatus{}, Problems: a.view.problems, HAProxy: a.view.proxy}
	rows, all := a.view.rows, maps.Clone(a.view.seen)
	a.view.mu.Unlock()
	if rows == nil && len(all) > 0 { // a new process: the next sweep is seconds away
		rows, _ = a.sweep(context.Background())
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name].status
		if !r.readAt.IsZero() {
			r.AgeSeconds = time.Since(r.readAt).Seconds()
		}
		r.States = states(all[name], rows)
		r.Hosts = a.hosts(all[name].hosts)
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

// states counts backends by how they are.
func states(s seen, rows map[string][]haproxy.Row) map[string]int {
	n := map[string]int{"up": 0, "down": 0, "drain": 0, "maint": 0, "probing": 0}
	byName := index(s, rows)
	for _, m := range s.members {
		row, ok := byName[m.name]
		switch {
		case m.probing || !ok:
			n["probing"]++
		case row.Up():
			n["up"]++
		case strings.HasPrefix(row.Status, "DRAIN") || row.Weight == 0:
			n["drain"]++
		case strings.HasPrefix(row.Status, "MAINT"):
			n["maint"]++
		default:
			n["down"]++
		}
	}
	return n
}

// index returns the rows of a registration's servers by name; that of the
// nearest backend where there are several.
func index(s seen, rows map[string][]haproxy.Row) map[string]haproxy.Row {
	byName := map[string]haproxy.Row{}
	for _, b := range slices.Backward(s.backends) {
		for _, row := range rows[b] {
			if row.Server != "BACKEND" && row.Server != "FRONTEND" {
				byName[row.Server] = row
			}
		}
	}
	return byName
}

// Sweep reads the state of all servers every few seconds until ctx ends, for
// Status, and for members that only HAProxy's checks can call down.
func (a *Agent) Sweep(ctx context.Context, every time.Duration) error {
	for {
		begin := time.Now()
		if rows, err := a.sweep(ctx); err == nil {
			a.inbox.put(func() { a.inbox.stats = rows })
		}
		// With thousands of servers an answer is megabytes: it may cost HAProxy and
		// us no more than a small share of the time.
		pause := max(every, min(250*time.Since(begin), time.Minute))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (a *Agent) sweep(ctx context.Context) (map[string][]haproxy.Row, error) {
	a.view.mu.Lock()
	pid := a.view.pid
	a.view.mu.Unlock()
	if pid == 0 {
		return nil, errNotStarted
	}
	all, err := a.runtime.Stats(ctx, pid)
	if err != nil {
		return nil, err
	}
	rows, ids, queues := map[string][]haproxy.Row{}, map[string]int{}, map[string]int{}
	for _, row := range all {
		queues[row.Proxy] += row.Queue
		switch row.Server {
		case "FRONTEND":
		case "BACKEND":
			ids[row.Proxy] = row.ProxyID
		default:
			rows[row.Proxy] = append(rows[row.Proxy], row)
		}
	}
	a.view.mu.Lock()
	defer a.view.mu.Unlock()
	if a.view.pid == pid {
		a.view.rows, a.view.ids, a.view.queues = rows, ids, queues
	}
	return rows, nil
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
	byName := index(s, a.rowsOf(ctx, s, ids, pid))
	answer = paasta.AgentBackends{Registration: name, Version: s.version, StaleSince: s.stale, Backends: []paasta.AgentBackend{}}
	if answer.StaleSince == nil && a.o.Connected != nil && !a.o.Connected() {
		answer.StaleSince = &s.status.readAt
	}
	for _, m := range s.members {
		b := paasta.AgentBackend{Name: m.name, Host: m.host, Port: m.port, TaskID: m.task, Weight: m.weight, Status: "PROBING", LastCheck: m.err, Since: m.since}
		if row, ok := byName[m.name]; ok && !m.probing {
			b.Status, b.Up, b.LastCheck, b.Sessions = row.Status, row.Up(), row.Check(), row.Sessions
		}
		answer.Backends = append(answer.Backends, b)
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

// rowsOf asks HAProxy for the servers of one registration only.
func (a *Agent) rowsOf(ctx context.Context, s seen, ids map[string]int, pid int) map[string][]haproxy.Row {
	if pid == 0 || len(s.backends) == 0 {
		return nil
	}
	var proxies []int
	for _, b := range s.backends {
		if id := ids[b]; id != 0 {
			proxies = append(proxies, id)
		}
	}
	if len(proxies) < len(s.backends) {
		rows, err := a.sweep(ctx) // learns the numbers as well
		if err != nil {
			return nil
		}
		return rows
	}
	all, err := a.runtime.Stats(ctx, pid, proxies...)
	if err != nil {
		return nil
	}
	rows := map[string][]haproxy.Row{}
	for _, row := range all {
		rows[row.Proxy] = append(rows[row.Proxy], row)
	}
	return rows
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

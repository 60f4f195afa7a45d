// Package worker brings instances to where they should be: a Round reads what
// is, plans, and makes the steps. It keeps nothing that a restart could lose
// but when it first saw a drain: what runs is in Marathon, what takes traffic
// is in the registry, and the next round reads both again.
package worker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/deployd/internal/register"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// The named steps, in the order in which a bounce reaches them. A test can stop
// deployd at each of them, and the next deployd goes on.
const (
	StepDeploymentsWritten = "deployments-written"
	StepAppCreated         = "app-created"
	StepScaled             = "scaled"
	StepRegistered         = "registered"
	StepDrainStarted       = "drain-started"
	StepDrained            = "drained"
	StepKilled             = "killed"
	StepDeregistered       = "deregistered"
	StepAppDeleted         = "app-deleted"
)

// Steps lists the named steps.
var Steps = []string{
	StepDeploymentsWritten, StepAppCreated, StepScaled, StepRegistered, StepDrainStarted,
	StepDrained, StepKilled, StepDeregistered, StepAppDeleted,
}

// Marathon is what a round asks of Marathon.
type Marathon interface {
	AppsOf(ctx context.Context, id paasta.InstanceID) ([]marathon.App, error)
	Create(ctx context.Context, d marathon.Definition) error
	Scale(ctx context.Context, appID string, size int, force bool) error
	KillTasks(ctx context.Context, ids []string, scale, force bool) error
	DeleteApp(ctx context.Context, appID string) error
}

// Registry is what a round asks of the registry.
type Registry interface {
	List(ctx context.Context, registration string) (registry.Set, error)
	Apply(ctx context.Context, registration string, add []registry.Entry, remove []registry.Node) error
}

// Agents is what a round asks of the hosts that route.
type Agents interface {
	Live() (live, lingering []paasta.AgentNode)
	Settled() (bool, time.Duration)
	Backends(a paasta.AgentNode, registration string) (paasta.AgentBackends, error)
	Connections(a paasta.AgentNode, host string, port int) (int, error)
}

// Options are what a Worker is made of; all are required.
type Options struct {
	Config   sysconfig.Config
	Marathon Marathon
	Registry Registry
	Agents   Agents
	Guard    *register.Guard
	Known    *Known
	Log      *slog.Logger
	// Say writes a line of the deploy log. It does not block.
	Say func(id paasta.InstanceID, level, message string)
	// AtStep is called when a named step was made.
	AtStep func(step string)
	// Outside runs f, which may be slow, without holding up other instances.
	Outside func(f func())
	// MayRefresh gives a stale instance a turn to be replaced: when it is now it
	// returns 0, and otherwise how long it is until then.
	MayRefresh func(id paasta.InstanceID) time.Duration
	// AtRisk tells whether a host is about to go for maintenance.
	AtRisk func(host string) bool
	// DeployedBefore returns the commit that was fully deployed in a deploy group
	// before sha, "" for none.
	DeployedBefore func(ctx context.Context, service, group, sha string) (string, error)
	// Size returns the size that was asked for an autoscaled instance.
	Size func(ctx context.Context, id paasta.InstanceID) (size int, found bool, err error)
}

// A Job is one instance and all that is said about it.
type Job struct {
	ID paasta.InstanceID
	// Instance is nil when soa-configs do not have it any more.
	Instance *soaconfig.Instance
	Service  *soaconfig.Service
	// Namespace returns the namespace of a registration; unknown means that it
	// could not be read, which changes nothing.
	Namespace func(registration string) (ns soaconfig.Namespace, found, unknown bool)
	// Deployed is what the tags say; its error, why they say nothing.
	Deployed    marathon.Deployment
	DeployedErr error
	Stopped     bool
	// Problem says what is wrong with the instance's config. Instance is then what
	// was valid before, if that is Known; else it has at most its deploy group, and
	// it is stopped if that is asked for, and otherwise left as it is.
	Problem error
	Known   bool
}

// unknown tells whether nobody knows what the instance should be.
func (j *Job) unknown() bool { return j.Problem != nil && !j.Known }

// A Worker makes rounds. It is safe for several instances at a time, and for
// one instance once at a time.
type Worker struct {
	o         Options
	addresses addresses
	lag       lag

	mu    sync.Mutex
	notes map[paasta.InstanceID]*note
}

// A note is what a Worker remembers of an instance between rounds.
type note struct {
	mu       sync.Mutex
	status   paasta.BounceStatus
	drains   map[string]*drainNote // by task
	killed   map[string]time.Time  // by task
	served   map[string]time.Time  // since when tasks were seen to be registered with a weight
	happy    map[string]bool       // tasks that were happy in the load balancers
	finished string                // app that was brought up, for which agents are asked no more
	held     string                // what the guard held back in the round before
}

type drainNote struct {
	began   time.Time
	version map[string]int64 // registration → version to apply; nil while no read had weight 0
	applied bool             // by every agent
}

// New returns a Worker that remembers nothing.
func New(o Options) *Worker { return &Worker{o: o, notes: map[paasta.InstanceID]*note{}} }

func (w *Worker) noteOf(id paasta.InstanceID) *note {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.notes[id]
	if n == nil {
		n = &note{
			status: paasta.BounceStatus{Service: id.Service, Instance: id.Instance, State: "waiting", Since: time.Now()},
			drains: map[string]*drainNote{}, killed: map[string]time.Time{}, served: map[string]time.Time{}, happy: map[string]bool{},
		}
		w.notes[id] = n
	}
	return n
}

// Status returns what is known of an instance.
func (w *Worker) Status(id paasta.InstanceID) (paasta.BounceStatus, bool) {
	w.mu.Lock()
	n := w.notes[id]
	w.mu.Unlock()
	if n == nil {
		return paasta.BounceStatus{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status, true
}

// Statuses returns what is known of all instances, in no order.
func (w *Worker) Statuses() []paasta.BounceStatus {
	w.mu.Lock()
	notes := maps.Clone(w.notes)
	w.mu.Unlock()
	all := make([]paasta.BounceStatus, 0, len(notes))
	for _, n := range notes {
		n.mu.Lock()
		all = append(all, n.status)
		n.mu.Unlock()
	}
	return all
}

// Forget drops what is remembered of an instance that is no more.
func (w *Worker) Forget(id paasta.InstanceID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.notes, id)
}

// Waiting lists the instances that are not where they should be, so that news of
// agents concern them; not those that were never deployed.
func (w *Worker) Waiting() []paasta.InstanceID {
	var ids []paasta.InstanceID
	for _, s := range w.Statuses() {
		if s.App != "" && (s.State == "bouncing" || s.State == "waiting") {
			ids = append(ids, paasta.InstanceID{Service: s.Service, Instance: s.Instance})
		}
	}
	return ids
}

// update changes an instance's status. A change of state begins a new Since.
func (n *note) update(change func(*paasta.BounceStatus)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.status.State + n.status.App
	change(&n.status)
	if n.status.State+n.status.App != before {
		n.status.Since = time.Now()
	}
}

// maxSteps is how many of its latest steps an instance's status shows.
const maxSteps = 50

// made records a step that was made.
func (w *Worker) made(id paasta.InstanceID, n *note, s bounce.Step) {
	step := paasta.BounceStep{Time: time.Now(), Op: s.Op.String(), Target: s.Target(), Why: s.Why}
	n.update(func(st *paasta.BounceStatus) {
		steps := append(slices.Clip(st.Steps), step)
		st.Steps = steps[max(0, len(steps)-maxSteps):]
	})
	w.o.Log.Info("bounce step made", "service", id.Service, "instance", id.Instance, "op", step.Op, "app", s.App, "task", s.Task, "why", s.Why)
	w.o.Say(id, "event", s.String())
}

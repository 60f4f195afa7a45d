package deployd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/deploylog"
	"github.com/gopaasta/paasta/deployd/internal/history"
	"github.com/gopaasta/paasta/deployd/internal/queue"
	"github.com/gopaasta/paasta/deployd/internal/register"
	"github.com/gopaasta/paasta/deployd/internal/removal"
	"github.com/gopaasta/paasta/deployd/internal/watch"
	"github.com/gopaasta/paasta/deployd/internal/worker"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/rungroup"
	"github.com/gopaasta/paasta/paasta/zk"
)

// Steps lists the named steps of a bounce, at each of which a test can kill
// deployd.
var Steps = worker.Steps

// A term is one time of leadership. Everything in it begins from nothing and
// ends with it; what it writes to ZooKeeper carries its fence.
type term struct {
	*daemon
	fence    zk.Fence
	registry *registry.ZooKeeper
	worker   *worker.Worker
	pool     *pool
	tags     *watch.Tags
	log      *deploylog.Log
	history  *history.History
	known    *worker.Known
	entries  *register.Guard

	resync chan struct{} // asks for a reading of everything
	sizes  chan struct{} // a desired size has changed
	news   chan struct{} // of agents

	mu       sync.Mutex
	removal  removal.Guard
	removing map[paasta.InstanceID]bool
	drained  map[string]bool // hosts that go for maintenance
	refresh  time.Time       // the next turn to replace a stale app that nobody has
	turns    map[paasta.InstanceID]time.Time
	sized    map[paasta.InstanceID]bool
	groups   map[paasta.InstanceID]string // deploy groups, by the apps that run
	holding  atomic.Pointer[string]
}

func newTerm(d *daemon, fence zk.Fence) *term {
	c := d.Config
	t := &term{
		daemon: d, fence: fence,
		registry: registry.NewZooKeeper(d.ZK).Fenced(fence),
		log:      deploylog.New(d.ZK, fence, c.Cluster, d.Log),
		history:  &history.History{Conn: d.ZK, Fence: fence, Cluster: c.Cluster},
		known:    &worker.Known{Cluster: c.Cluster},
		entries:  &register.Guard{Hold: d.HoldEntries},
		resync:   make(chan struct{}, 1), sizes: make(chan struct{}, 1), news: make(chan struct{}, 1),
		removal: removal.Guard{Hold: d.HoldInstances}, removing: map[paasta.InstanceID]bool{},
		drained: map[string]bool{}, sized: map[paasta.InstanceID]bool{}, turns: map[paasta.InstanceID]time.Time{},
	}
	t.pool = newPool(c.Deployd.Workers, time.Minute, d.Log, d.m)
	t.pool.round = t.round
	t.worker = worker.New(worker.Options{
		Config: c, Marathon: d.Marathon, Registry: t.registry, Agents: t.agents, Guard: t.entries, Known: t.known, Log: d.Log,
		Say: t.log.Say, AtStep: t.step, Outside: t.pool.outside, MayRefresh: t.mayRefresh, AtRisk: t.atRisk, Size: t.size,
		DeployedBefore: t.history.Before,
	})
	t.tags = watch.NewTags(watch.TagsOptions{
		Conn: d.ZK, Fence: fence, Cluster: c.Cluster, Read: t.readTags,
		Poll: c.Deployd.GitPoll, Hooked: c.Deployd.GitPollHooked, Parallel: 8, Timeout: time.Minute, Log: d.Log,
		Changed: func(service string) { t.kickService(service, queue.High) },
		Written: func() { t.step(worker.StepDeploymentsWritten) },
		Failed: func(service string, err error) {
			message := "tags can be read again"
			if err != nil {
				message = "tags cannot be read, what they said last stands: " + err.Error()
			}
			t.log.Say(paasta.InstanceID{Service: service, Instance: "N/A"}, "event", message)
		},
		Count: d.m.tags,
	})
	return t
}

func (t *term) step(name string) {
	t.m.steps.WithLabelValues(name).Inc()
	t.AtStep(name)
}

// run leads until ctx ends. A part that fails ends the term, and another one
// begins.
func (t *term) run(ctx context.Context) error {
	// Without soa-configs nothing is known to be wanted, and nothing may go.
	for t.tree.Load() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := t.tags.Load(ctx); err != nil {
		return err
	}
	changed := t.soaChanged
	t.changed.Store(&changed)
	t.term.Store(t)
	defer t.term.Store(nil)
	defer t.changed.Store(nil)

	g, _ := rungroup.WithContext(ctx)
	cluster := t.Config.Cluster
	g.Go("deploy log", t.log.Run)
	g.Go("workers", t.pool.run)
	g.Go("resync", t.resyncs)
	g.Go("sizes", t.followSizes)
	g.Go("agents", t.followAgents)
	if t.Config.Deployd.Deployments != "file" {
		g.Go("tags", t.tags.Run)
	}
	g.Go("marathon events", func(ctx context.Context) error {
		return t.Marathon.Events(ctx, t.event, func() {
			t.m.attached.Inc()
			t.poke()
		})
	})
	g.Go("kicks", func(ctx context.Context) error {
		return watch.Children(ctx, t.ZK, path.Dir(paasta.KickPath(cluster, "x")), t.Log, t.kicks)
	})
	g.Go("confirmations", func(ctx context.Context) error {
		return watch.Children(ctx, t.ZK, path.Dir(paasta.ConfirmPath(cluster, "x")), t.Log, t.confirmations)
	})
	g.Go("maintenance", func(ctx context.Context) error {
		return watch.Children(ctx, t.ZK, paasta.MaintenancePath(cluster), t.Log, t.maintenance)
	})
	t.soaChanged(nil)
	return g.Wait()
}

// agentsChanged hears that an agent came, went, or answered something else.
func (t *term) agentsChanged() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// newsRest is between two rounds for news of agents: hundreds of agents tell of
// one change one after the other, and Marathon answers each round.
const newsRest = 100 * time.Millisecond

func (t *term) followAgents(ctx context.Context) error {
	paced(ctx, t.news, newsRest, func() {
		for _, id := range t.worker.Waiting() {
			t.pool.add(id, 0, queue.High)
		}
	})
	return nil
}

// paced calls do at once when woken, and not again before rest has passed, until
// ctx ends.
func paced(ctx context.Context, wake <-chan struct{}, rest time.Duration, do func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		do()
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// event hears of something in Marathon.
func (t *term) event(e marathon.Event) {
	t.m.events.Inc()
	id, err := paasta.ParseAppID(e.AppID)
	if err != nil {
		return // not ours, or about everything
	}
	t.pool.add(id.InstanceID, 0, queue.High)
}

func (t *term) poke() {
	select {
	case t.resync <- struct{}{}:
	default:
	}
}

// kicks hears of services that should be looked at now. The node goes first: a
// kick that comes later is another one.
func (t *term) kicks(ctx context.Context, names []string) error {
	for _, service := range names {
		kick := paasta.KickPath(t.Config.Cluster, service)
		from, _, err := t.ZK.Get(ctx, kick)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		if err := t.take(ctx, kick); err != nil {
			return err
		}
		t.Log.Info("kicked", "service", service, "from", string(from))
		t.tags.Kick(service, string(from) == paasta.KickFromHook)
		t.kickService(service, queue.High)
	}
	return nil
}

// confirmations hears an operator's word that what is held back is right.
func (t *term) confirmations(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := t.take(ctx, paasta.ConfirmPath(t.Config.Cluster, name)); err != nil {
			return err
		}
		service := name
		if name == paasta.ConfirmAll {
			service = ""
		}
		t.Log.Info("removals confirmed by an operator", "service", name)
		now := time.Now()
		t.entries.Confirm(service, now)
		t.mu.Lock()
		t.removal.Confirm(service, now)
		t.mu.Unlock()
		t.poke()
	}
	return nil
}

// take deletes a hint.
func (t *term) take(ctx context.Context, p string) error {
	err := t.ZK.Multi(ctx, t.fence.Op(), zk.Op{Kind: zk.OpDelete, Path: p, Version: -1})
	var failed *zk.OpError
	if errors.As(err, &failed) && failed.Op.Kind == zk.OpDelete && errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}

func (t *term) maintenance(_ context.Context, names []string) error {
	hosts := map[string]bool{}
	for _, name := range names {
		hosts[name] = true
	}
	t.mu.Lock()
	t.drained = hosts
	t.mu.Unlock()
	t.poke()
	return nil
}

func (t *term) atRisk(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.drained[host]
}

// mayRefresh gives a stale instance a turn, one after the other: a system-wide
// change must not bounce the whole cluster at once. It returns how long it is
// until its turn, 0 when it is now.
func (t *term) mayRefresh(id paasta.InstanceID) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	turn, ok := t.turns[id]
	if !ok {
		turn = now
		if t.refresh.After(now) {
			turn = t.refresh
		}
		t.refresh = turn.Add(time.Minute / time.Duration(t.Config.Deployd.BigBounceRate))
		t.turns[id] = turn
	}
	if turn.After(now) {
		return turn.Sub(now)
	}
	delete(t.turns, id)
	return 0
}

// size reads the size that somebody asked for, and hears of its changes.
func (t *term) size(ctx context.Context, id paasta.InstanceID) (int, bool, error) {
	t.mu.Lock()
	t.sized[id] = true
	t.mu.Unlock()
	text, _, err := t.ZK.WatchData(ctx, paasta.DesiredSizePath(t.Config.Cluster, id), t.sizes)
	if errors.Is(err, zk.ErrNoNode) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 0 {
		return 0, false, fmt.Errorf("%s: %q is no size", paasta.DesiredSizePath(t.Config.Cluster, id), text)
	}
	return n, true, nil
}

func (t *term) followSizes(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.sizes:
		}
		t.mu.Lock()
		for id := range t.sized {
			t.pool.add(id, 0, queue.High)
		}
		t.mu.Unlock()
	}
}

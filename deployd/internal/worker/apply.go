package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/bounce"
	"github.com/gopaasta/paasta/deployd/internal/register"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
)

// carryOut makes the steps in their order: what adds capacity, then the
// registry, then what takes capacity away.
func (r *round) carryOut(ctx context.Context, steps []bounce.Step) error {
	by := map[bounce.Op][]bounce.Step{}
	for _, s := range steps {
		by[s.Op] = append(by[s.Op], s)
	}
	if err := r.grow(ctx, by); err != nil {
		// What takes capacity away was planned with this; what is healthy is
		// registered all the same.
		return errors.Join(err, r.register(ctx, nil))
	}
	for _, s := range by[bounce.Undrain] {
		r.want[s.Task] = register.Serve
	}
	for _, s := range by[bounce.Drain] {
		r.want[s.Task] = register.Drain
	}
	for _, s := range by[bounce.Kill] {
		r.want[s.Task] = register.Keep // a drained task stays at weight 0 until it is gone
		if w, ok := r.weight[s.Task]; ok && w > 0 {
			r.want[s.Task] = register.Gone // not drained by the registry: out before it dies
		}
	}
	// Traffic goes to whoever knows that it takes some: a drain ends before the
	// weight comes back, and begins after the weight has gone.
	by[bounce.Undrain] = r.stopDrains(ctx, by[bounce.Undrain])
	if err := r.register(ctx, by); err != nil {
		return err
	}
	r.startDrains(ctx, by[bounce.Drain])
	if err := r.kill(ctx, by[bounce.Kill]); err != nil {
		return err
	}
	for _, s := range by[bounce.Delete] {
		if err := r.o.Marathon.DeleteApp(ctx, s.App); err != nil && !errors.Is(err, marathon.ErrNotFound) {
			return r.locked(err)
		}
		r.made(r.job.ID, r.note, s)
		r.o.AtStep(StepAppDeleted)
		r.soon(100 * time.Millisecond)
	}
	return nil
}

// grow makes the steps that no task suffers from.
func (r *round) grow(ctx context.Context, by map[bounce.Op][]bounce.Step) error {
	for _, s := range by[bounce.Create] {
		if err := r.create(ctx, s); err != nil {
			return err
		}
	}
	for _, s := range by[bounce.Scale] {
		if err := r.o.Marathon.Scale(ctx, s.App, s.Size, true); err != nil {
			return r.locked(err)
		}
		r.made(r.job.ID, r.note, s)
		r.o.AtStep(StepScaled)
	}
	return nil
}

func (r *round) create(ctx context.Context, s bounce.Step) error {
	before, err := r.o.DeployedBefore(ctx, r.job.ID.Service, r.job.Instance.DeployGroup, r.job.Deployed.GitSHA)
	if err != nil {
		return err
	}
	def := r.def
	if before != "" {
		def.Labels = maps.Clone(def.Labels)
		def.Labels[marathon.LabelDeployedBefore] = before
	}
	err = r.o.Marathon.Create(ctx, def)
	if err != nil && !errors.Is(err, marathon.ErrExists) {
		return r.locked(err)
	}
	r.made(r.job.ID, r.note, s)
	r.o.AtStep(StepAppCreated)
	return nil
}

// locked leaves an app alone for a moment when a deployment has it.
func (r *round) locked(err error) error {
	if errors.Is(err, marathon.ErrLocked) {
		r.soon(time.Second)
	}
	return err
}

// register makes the changes of all registrations, each in one transaction.
func (r *round) register(ctx context.Context, by map[bounce.Op][]bounce.Step) error {
	changes := map[string]register.Changes{}
	unplanned := map[string]registry.Node{}
	for name := range r.sets {
		c := r.changes(name)
		changes[name] = c
		for _, n := range c.Unplanned {
			unplanned[n.Path] = n
		}
	}
	ofService, ofCluster := r.o.Known.Counts(r.job.ID.Service)
	allowed, held, until := r.o.Guard.Ask(r.now, r.job.ID.Service, r.job.ID.String(), slices.Sorted(maps.Keys(unplanned)), ofService, ofCluster)
	if held > 0 {
		r.held = fmt.Sprintf("%d of %d entries would go although nobody planned that; they stay until %s, or until the service is confirmed",
			held, ofService, until.UTC().Format(time.TimeOnly))
		r.soon(until.Sub(r.now))
	}
	if r.held != "" && r.held != r.note.held { // each round finds the same
		r.o.Log.Warn("unplanned removals are held back", "service", r.job.ID.Service, "instance", r.job.ID.Instance, "entries", held, "why", r.held)
	}
	r.note.held = r.held
	added, removed := 0, 0
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		c := changes[name]
		for _, n := range c.Unplanned {
			if slices.Contains(allowed, n.Path) {
				c.Remove = append(c.Remove, n)
				r.o.Say(r.job.ID, "event", fmt.Sprintf("%s is out of %s: it is gone or fails its checks", n.Labels[registry.LabelTaskID], name))
				r.soon(10 * time.Millisecond)
			}
		}
		if c.Empty() {
			continue
		}
		if err := r.o.Registry.Apply(ctx, name, c.Add, c.Remove); err != nil {
			return err
		}
		added, removed = added+len(c.Add), removed+len(c.Remove)
		r.o.Log.Info("registration changed", "service", r.job.ID.Service, "instance", r.job.ID.Instance, "path", name,
			"added", len(c.Add), "removed", len(c.Remove))
		if len(c.Add) > 0 {
			r.soon(10 * time.Millisecond)
		}
	}
	for _, op := range []bounce.Op{bounce.Undrain, bounce.Drain} {
		for _, s := range by[op] {
			r.made(r.job.ID, r.note, s)
		}
	}
	switch {
	case len(by[bounce.Drain]) > 0:
		r.o.AtStep(StepDrainStarted)
	case added > 0:
		r.o.AtStep(StepRegistered)
	case removed > 0:
		r.o.AtStep(StepDeregistered)
	}
	return nil
}

// kill kills what may be killed, one request an app. Marathon lowers the app's
// size with it, but for kills that are made again.
func (r *round) kill(ctx context.Context, steps []bounce.Step) error {
	type request struct {
		app   string
		again bool
	}
	var requests []request
	tasks := map[request][]string{}
	for _, s := range steps {
		key := request{s.App, s.Again}
		if tasks[key] == nil {
			requests = append(requests, key)
		}
		tasks[key] = append(tasks[key], s.Task)
		if w, ok := r.weight[s.Task]; ok && w == 0 {
			r.o.AtStep(StepDrained)
		}
	}
	for _, key := range requests {
		if err := r.o.Marathon.KillTasks(ctx, tasks[key], !key.again, true); err != nil {
			return r.locked(err)
		}
		for _, task := range tasks[key] {
			r.note.killed[task] = time.Now()
		}
	}
	for _, s := range steps {
		r.made(r.job.ID, r.note, s)
	}
	if len(steps) > 0 {
		r.o.AtStep(StepKilled)
		r.soon(time.Second)
	}
	return nil
}

package deployd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gopaasta/paasta/deployd/internal/history"
	"github.com/gopaasta/paasta/deployd/internal/queue"
	"github.com/gopaasta/paasta/deployd/internal/removal"
	"github.com/gopaasta/paasta/deployd/internal/watch"
	"github.com/gopaasta/paasta/deployd/internal/worker"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// errUnread is why something of an instance is not known.
var errUnread = errors.New("soa-configs have not been read yet")

// soaChanged hears of new soa-configs; names are the services that changed, nil
// for all.
func (t *term) soaChanged(names []string) {
	tree := t.tree.Load()
	follow := map[string]bool{}
	for name, s := range tree.Services {
		if _, here := s.Instances[t.Config.Cluster]; here {
			follow[name] = true
		}
	}
	t.tags.Follow(follow)
	for _, name := range names {
		// Its deploy groups may be others now: what the tags say is read anew.
		if t.Config.Deployd.Deployments != "file" && follow[name] {
			t.tags.Reread(name)
		}
		t.kickService(name, queue.High)
		// A namespace concerns whoever registers in it, whatever its service.
		for other, s := range tree.Services {
			if other != name && registersIn(s, t.Config.Cluster, name) {
				t.kickService(other, queue.High)
			}
		}
	}
	t.poke()
}

func registersIn(s *soaconfig.Service, cluster, service string) bool {
	for _, i := range s.Instances[cluster].Valid {
		for _, name := range i.Registrations {
			if r, err := paasta.ParseRegistration(name); err == nil && r.Service == service {
				return true
			}
		}
	}
	return false
}

// configured lists the instances of a service in this cluster, the broken ones
// and those of an unreadable file too.
func (t *term) configured(s *soaconfig.Service) []paasta.InstanceID {
	entries := t.standing(s).Instances[t.Config.Cluster]
	names := slices.AppendSeq(slices.Collect(maps.Keys(entries.Valid)), maps.Keys(entries.Invalid))
	slices.Sort(names)
	var ids []paasta.InstanceID
	for _, name := range slices.Compact(names) {
		ids = append(ids, paasta.InstanceID{Service: s.Name, Instance: name})
	}
	return ids
}

// standing returns a service with its broken instances as they were last valid;
// those that this process never read so have the deploy group of what runs.
func (t *term) standing(s *soaconfig.Service) *soaconfig.Service {
	t.mu.Lock()
	groups := t.groups
	t.mu.Unlock()
	return t.valid.service(s, t.Config.Cluster, groups)
}

// kickService looks at all instances of a service now.
func (t *term) kickService(service string, p queue.Priority) {
	if s := t.tree.Load().Services[service]; s != nil {
		for _, id := range t.configured(s) {
			t.pool.add(id, 0, p)
		}
	}
}

// resyncs reads everything every now and then, and when events may have been
// missed.
func (t *term) resyncs(ctx context.Context) error {
	said := "" // of the failure that goes on
	for {
		pause := t.Config.Deployd.Resync
		again, err := t.readAll(ctx)
		if err != nil && ctx.Err() == nil {
			pause = time.Second
			if said != err.Error() {
				said = err.Error()
				t.Log.Warn("resync failed, will retry", "err", err, "retry_in", pause)
			}
		} else {
			said = ""
			if again > 0 {
				pause = min(pause, again)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-t.resync:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// readAll looks at every instance that is configured, runs, or is registered.
func (t *term) readAll(ctx context.Context) (again time.Duration, err error) {
	tree := t.tree.Load()
	for _, s := range tree.Services {
		for _, id := range t.configured(s) {
			t.pool.add(id, 0, queue.Low)
		}
	}
	names, err := t.registry.Registrations(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		set, err := t.registry.List(ctx, name)
		if err != nil {
			return 0, err
		}
		t.known.Saw(name, set.Nodes)
	}
	apps, err := t.Marathon.Apps(ctx)
	if err != nil {
		return 0, err
	}
	there := map[paasta.InstanceID]removal.Absence{}
	groups := map[paasta.InstanceID]string{}
	for _, a := range apps {
		id, err := paasta.ParseAppID(a.ID)
		if err == nil && a.Labels[marathon.LabelCluster] == t.Config.Cluster {
			groups[id.InstanceID] = a.Labels[marathon.LabelDeployGroup]
			there[id.InstanceID] = t.absence(tree, id.InstanceID)
			err := t.history.Restore(ctx, id.Service, a.Labels[marathon.LabelDeployGroup], a.Labels[marathon.LabelDeployedBefore], a.Labels[marathon.LabelGitSHA], a.Created)
			if err != nil {
				return 0, err
			}
		}
	}
	for _, id := range t.known.Instances() {
		there[id] = t.absence(tree, id)
	}
	t.mu.Lock()
	before := t.groups
	t.groups = groups // never changed, only replaced
	remove, due := t.removal.Look(time.Now(), there)
	why := t.removal.Why()
	t.removing = map[paasta.InstanceID]bool{}
	for _, id := range remove {
		t.removing[id] = true
	}
	t.mu.Unlock()
	for id, group := range groups {
		// Its tags mean something now that its group is known.
		if before[id] != group && t.absence(tree, id) == removal.Present {
			if _, _, err := tree.Services[id.Service].Instances[t.Config.Cluster].Find(id.Instance); err != nil {
				t.tags.Reread(id.Service)
			}
		}
	}
	for _, id := range remove {
		t.pool.add(id, 0, queue.Normal)
	}
	if old := t.holding.Swap(&why); why != "" && (old == nil || *old == "") {
		t.Log.Error("instances vanished from soa-configs, their removal is held back", "why", why)
	}
	held := 0.0
	if why != "" {
		held = 1
		again = time.Until(due)
	}
	t.m.heldRemoval.Set(held)
	t.m.heldEntries.Set(float64(t.entries.Held()))
	t.count()
	for _, s := range t.worker.Statuses() {
		id := paasta.InstanceID{Service: s.Service, Instance: s.Instance}
		if _, runs := there[id]; !runs && t.absence(tree, id) != removal.Present {
			t.worker.Forget(id)
		}
	}
	return max(again, 0), nil
}

func (t *term) count() {
	states, stale := map[string]float64{"steady": 0, "bouncing": 0, "waiting": 0, "failed": 0, "unknown": 0, "stopped": 0, "undeployed": 0}, 0.0
	for _, s := range t.worker.Statuses() {
		state := s.State
		if state == "waiting" && s.App == "" {
			state = "undeployed" // it waits for nothing but somebody who deploys it
		}
		states[state]++
		if s.Stale {
			stale++
		}
	}
	for state, n := range states {
		t.m.states.WithLabelValues(state).Set(n)
	}
	t.m.stale.Set(stale)
}

// holds says what waits for an operator's word or a second read.
func (t *term) holds() string {
	var s string
	if why := t.holding.Load(); why != nil {
		s = *why
	}
	if n := t.entries.Held(); n > 0 {
		if s != "" {
			s += "; "
		}
		s += fmt.Sprintf("%d entries would go although nobody planned that", n)
	}
	return s
}

// absence says how an instance is absent from soa-configs.
func (t *term) absence(tree *soaconfig.Tree, id paasta.InstanceID) removal.Absence {
	s := tree.Services[id.Service]
	if s == nil {
		return removal.Implicit
	}
	entries, ok := s.Instances[t.Config.Cluster]
	if !ok || entries.File == "" && len(entries.Unreadable) == 0 {
		return removal.Implicit
	}
	if _, found, _ := entries.Find(id.Instance); found {
		return removal.Present
	}
	return removal.Explicit
}

// round makes one round for an instance.
func (t *term) round(ctx context.Context, id paasta.InstanceID) (time.Duration, error) {
	tree := t.tree.Load()
	job := worker.Job{ID: id, Service: tree.Services[id.Service], Namespace: namespaces(tree)}
	if t.absence(tree, id) != removal.Present {
		t.mu.Lock()
		removing := t.removing[id]
		t.mu.Unlock()
		if !removing {
			// Its apps are left alone until readAll says otherwise.
			t.poke()
			return 0, nil
		}
		return t.worker.Round(ctx, job)
	}
	instance, _, err := job.Service.Instances[t.Config.Cluster].Find(id.Instance)
	if err != nil {
		job.Problem = err
		if instance, job.Known = t.valid.of(t.Config.Cluster, id); !job.Known {
			instance = soaconfig.Instance{Service: id.Service, Name: id.Instance, Cluster: t.Config.Cluster, DeployGroup: t.groupOf(id)}
		}
	}
	job.Instance = &instance
	job.Deployed, job.Stopped, job.DeployedErr = t.deployed(instance)
	again, err := t.worker.Round(ctx, job)
	if left := t.tags.Unconfirmed(id.Service); left > 0 && (again == 0 || left < again) {
		again = left
	}
	if job.DeployedErr == nil && ctx.Err() == nil && (job.Problem == nil || job.Known) {
		stands := t.valid.service(job.Service, t.Config.Cluster, nil)
		err = errors.Join(err, t.history.Saw(ctx, id.Service, instance.DeployGroup, t.sight(stands, instance.DeployGroup, job.Deployed.GitSHA)))
	}
	return again, err
}

// groupOf returns the deploy group of what runs of an instance, "" for nothing.
func (t *term) groupOf(id paasta.InstanceID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups[id]
}

// sight is how far a group is with a commit: it is fully deployed once every
// instance runs it that is not stopped, and at least one does.
func (t *term) sight(s *soaconfig.Service, group, sha string) history.Sight {
	running, why := 0, ""
	instances := s.Instances[t.Config.Cluster].Valid
	for _, name := range slices.Sorted(maps.Keys(instances)) {
		if instances[name].DeployGroup != group {
			continue
		}
		st, _ := t.worker.Status(paasta.InstanceID{Service: s.Name, Instance: name})
		app, err := paasta.ParseAppID(st.App)
		current := err == nil && app.Git == "git"+sha[:8]
		switch {
		case st.State == "stopped":
		case st.State == "steady" && current:
			running++
		case why != "":
		case current && st.Why != "":
			why = name + ": " + st.Why
		default:
			why = name + " has not been brought to it yet"
		}
	}
	if why == "" && running == 0 {
		why = "all its instances are stopped"
	}
	return history.Sight{GitSHA: sha, Done: why == "", Why: why}
}

// namespaces returns how the namespace of a registration is found.
func namespaces(tree *soaconfig.Tree) func(string) (soaconfig.Namespace, bool, bool) {
	return func(registration string) (ns soaconfig.Namespace, found, unknown bool) {
		r, err := paasta.ParseRegistration(registration)
		if err != nil {
			return ns, false, false
		}
		s := tree.Services[r.Service]
		if s == nil {
			return ns, false, false
		}
		if ns, ok := s.Clashing[r.Namespace]; ok {
			return ns, true, false // that another service wants its port stops no deploy
		}
		ns, found, err = s.Namespaces.Find(r.Namespace)
		return ns, found && err == nil, err != nil
	}
}

// deployed says what an instance should run, from what the tags said last.
func (t *term) deployed(i soaconfig.Instance) (d marathon.Deployment, stopped bool, err error) {
	text, readErr := t.tags.Text(i.Service)
	if t.Config.Deployd.Deployments == "file" {
		text, readErr = os.ReadFile(filepath.Join(t.Config.SoaDir, i.Service, "deployments.json"))
		if errors.Is(readErr, os.ErrNotExist) {
			return d, false, fmt.Errorf("%s.%s: there is no deployments.json (paasta generate-deployments makes it)", i.Service, i.Name)
		}
	} else if t.tags.Unconfirmed(i.Service) > 0 {
		text = nil
	}
	if text == nil {
		if readErr == nil {
			readErr = errors.New("have not been read yet")
		}
		return d, false, fmt.Errorf("tags of %s: %w", i.Service, readErr)
	}
	file, err := deployments.Decode(text)
	if err != nil {
		return d, false, err
	}
	target, err := file.For(i.Service, i.Cluster, i.Name, i.DeployGroup)
	if err != nil {
		return d, false, err
	}
	d = marathon.Deployment{Image: target.DockerImage, GitSHA: target.GitSHA, ForceBounce: target.State.ForceBounce}
	return d, target.State.Desired == string(paasta.TagStop), nil
}

// readTags reads a service's tags and says what follows from them.
func (t *term) readTags(ctx context.Context, service string) ([]byte, error) {
	tree := t.tree.Load()
	if tree == nil {
		return nil, errUnread
	}
	s := tree.Services[service]
	if s == nil {
		return nil, fmt.Errorf("%s is not in soa-configs any more", service)
	}
	if s.GitURL == "" {
		return nil, fmt.Errorf("%s/service.yaml: git_url is not set, so its tags cannot be read: %w", service, watch.ErrNoRepository)
	}
	tags, err := t.Tags(ctx, s.GitURL)
	if err != nil {
		return nil, err
	}
	file := deployments.Generate(t.standing(s), paasta.NewTagLog(tags))
	if before, _ := t.tags.Text(service); before != nil {
		if old, err := deployments.Decode(before); err == nil {
			file.Keep(s, old)
		}
	}
	return deployments.Encode(file), nil
}

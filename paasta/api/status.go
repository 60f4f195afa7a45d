package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A snapshot is everything that was read for a status of one service. An error
// says that the part beside it is unknown, or incomplete.
type snapshot struct {
	cluster string
	tree    *soaconfig.Tree
	svc     *soaconfig.Service

	deployed    Deployments
	deployedErr error
	sizes       map[string]int // by instance
	sizesErr    error

	apps        []marathon.App
	queue       []marathon.QueueItem
	marathonErr error

	bounces    map[string]paasta.BounceStatus // by instance
	leads      bool                           // somebody leads
	bouncesErr error

	agents    int                    // how many hosts announce one
	views     map[string][]AgentView // by registration
	agentsErr error
}

// status reads all parts at once and puts the answer together.
func (s *server) status(ctx context.Context, tree *soaconfig.Tree, svc *soaconfig.Service, instances []string) []InstanceStatus {
	n := snapshot{cluster: s.Cluster, tree: tree, svc: svc}
	zkCtx, cancel := context.WithTimeout(ctx, zookeeperWithin)
	defer cancel()
	var hosts []string
	var wg sync.WaitGroup
	wg.Go(func() { n.deployed, n.deployedErr = s.deployed(zkCtx, svc.Name) })
	wg.Go(func() { n.sizes, n.sizesErr = s.sizes(zkCtx, svc.Name, autoscaled(svc, s.Cluster, instances)) })
	wg.Go(func() { hosts, n.agentsErr = s.agentHosts(zkCtx) })
	wg.Go(func() { n.bounces, n.leads, n.bouncesErr = s.bounces(ctx, svc.Name) })
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, marathonWithin)
		defer cancel()
		n.apps, n.queue, n.marathonErr = s.apps(ctx, svc.Name, instances)
	})
	wg.Wait()

	if n.agents = len(hosts); n.agents > 0 {
		// The second round: which hosts to ask depends on where the tasks are.
		zkCtx, cancel := context.WithTimeout(ctx, zookeeperWithin)
		defer cancel()
		agents, err := s.agents(zkCtx, choose(hosts, n.taskHosts(instances)))
		n.agentsErr = err
		n.views = s.views(ctx, agents, n.registrations(instances))
	}

	all := make([]InstanceStatus, len(instances))
	for i, name := range instances {
		all[i] = n.instance(name)
		if !all[i].OK {
			wg.Go(func() { s.lastWords(ctx, &all[i]) })
		}
	}
	wg.Wait()
	return all
}

// lastWords fills in the output of the task that failed last.
func (s *server) lastWords(ctx context.Context, st *InstanceStatus) {
	var f *Failure
	for _, v := range st.Versions {
		if v.LastFailure != nil && (f == nil || v.LastFailure.Time.After(f.Time)) {
			f = v.LastFailure
		}
	}
	if f == nil {
		return
	}
	const most, longest = 5, 1000 // lines, bytes of one
	ctx, cancel := context.WithTimeout(ctx, marathonWithin)
	defer cancel()
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	for _, m := range s.Marathon {
		err := m.TaskLogs(ctx, f.Task, most, false, func(_ string, at time.Time, text string) error {
			lines = append(lines, line{at, strings.ToValidUTF8(text[:min(len(text), longest)], "")})
			return nil
		})
		if err != nil && !errors.Is(err, marathon.ErrNotFound) && !errors.Is(err, marathon.ErrNoOutput) {
			st.Notes = append(st.Notes, fmt.Sprintf("what the task that failed last said is unknown: %v", err))
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines[max(0, len(lines)-most):] {
		f.Output = append(f.Output, l.text)
	}
}

// autoscaled lists those of the instances whose size is kept in ZooKeeper.
func autoscaled(svc *soaconfig.Service, cluster string, instances []string) []string {
	var names []string
	for _, name := range instances {
		if svc.Instances[cluster].Valid[name].MaxInstances != nil {
			names = append(names, name)
		}
	}
	return names
}

// appsOf lists the apps of an instance, of whatever version.
func (n *snapshot) appsOf(instance string) (apps []marathon.App, ids []paasta.AppID) {
	for _, app := range n.apps {
		id, err := paasta.ParseAppID(app.ID)
		if err == nil && id.Service == n.svc.Name && id.Instance == instance {
			apps, ids = append(apps, app), append(ids, id)
		}
	}
	return apps, ids
}

// taskHosts are the hosts of the tasks of the instances.
func (n *snapshot) taskHosts(instances []string) map[string]bool {
	hosts := map[string]bool{}
	for _, name := range instances {
		apps, _ := n.appsOf(name)
		for _, app := range apps {
			for _, t := range app.Tasks {
				hosts[t.Host] = true
			}
		}
	}
	return hosts
}

// namespace finds the namespace of a registration, which may be another
// service's; found is false when the registration is not in SmartStack.
func (n *snapshot) namespace(registration string) (ns soaconfig.Namespace, found bool) {
	reg, err := paasta.ParseRegistration(registration)
	if err != nil {
		return ns, false
	}
	svc, ok := n.tree.Services[reg.Service]
	if !ok {
		return ns, false
	}
	ns, found, err = svc.Namespaces.Find(reg.Namespace)
	return ns, found && err == nil && ns.Registered
}

// registration is the primary registration of an instance, as its newest app has
// it while soa-configs are broken; "" for none.
func (n *snapshot) registration(instance string) string {
	config, _, err := n.svc.Instances[n.cluster].Find(instance)
	if app, _ := n.newestOf(instance); err != nil && app != nil {
		first, _, _ := strings.Cut(app.Labels[marathon.LabelRegistrations], ",")
		return first
	}
	if len(config.Registrations) == 0 {
		return ""
	}
	return config.Registrations[0]
}

// registrations are the primary registrations of the instances that are in
// SmartStack.
func (n *snapshot) registrations(instances []string) []string {
	var regs []string
	for _, name := range instances {
		if reg := n.registration(name); reg != "" {
			if _, found := n.namespace(reg); found {
				regs = append(regs, reg)
			}
		}
	}
	slices.Sort(regs)
	return slices.Compact(regs)
}

// size is how many tasks an instance should have when it is started.
func (n *snapshot) size(i soaconfig.Instance) int {
	if i.MaxInstances == nil {
		return i.Size
	}
	want, ok := n.sizes[i.Name]
	if !ok {
		return *i.MaxInstances
	}
	return max(i.MinInstances, min(want, *i.MaxInstances))
}

// expected sums the sizes of all instances of this cluster that register in a
// registration, as the original does without regard to stops.
func (n *snapshot) expected(registration string) int {
	sum := 0
	for _, svc := range n.tree.Services {
		for _, i := range svc.Instances[n.cluster].Valid {
			if slices.Contains(i.Registrations, registration) {
				if svc == n.svc {
					sum += n.size(i)
				} else {
					sum += i.Size // its desired size was not read
				}
			}
		}
	}
	for _, name := range n.instancesOfApps() {
		app, _ := n.newestOf(name)
		if _, _, err := n.svc.Instances[n.cluster].Find(name); err != nil && slices.Contains(strings.Split(app.Labels[marathon.LabelRegistrations], ","), registration) {
			sum += app.Size
		}
	}
	return sum
}

// instancesOfApps are the instances that have an app.
func (n *snapshot) instancesOfApps() []string {
	var names []string
	for _, app := range n.apps {
		if id, err := paasta.ParseAppID(app.ID); err == nil && id.Service == n.svc.Name {
			names = append(names, id.Instance)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// instance puts together what is known of one instance.
func (n *snapshot) instance(name string) InstanceStatus {
	st := InstanceStatus{
		Service: n.svc.Name, Instance: name, Cluster: n.cluster,
		DesiredState: "start", DeployStatus: "Unknown", Versions: []Version{},
	}
	note := func(format string, args ...any) { st.Notes = append(st.Notes, fmt.Sprintf(format, args...)) }

	config, found, err := n.svc.Instances[n.cluster].Find(name)
	sound := found && err == nil
	switch {
	case err != nil:
		note("soa-configs are broken here, what was valid before stands: %v", err)
	case !found:
		note("no longer in soa-configs: deployd removes its apps")
	}
	st.DeployGroup, st.BounceMethod, st.MarginFactor = config.DeployGroup, config.BounceMethod, config.BounceMarginFactor
	st.Expected = n.size(config)

	if n.deployedErr != nil {
		st.GitUnknown = true
		note("which commit should run is unknown: %v", n.deployedErr)
	} else if sound {
		st.GitSHA = n.deployed.Groups[config.DeployGroup].GitSHA
		if c, ok := n.deployed.Controls[name]; ok && c.DesiredState != "" {
			st.DesiredState = c.DesiredState
		}
		switch {
		case n.deployed.Known:
		case n.svc.GitURL == "":
			note("it has no git_url, so nobody can deploy it: set that in service.yaml")
		default:
			note("deployd has not read the tags of %s yet", n.svc.Name)
		}
	}
	if err != nil {
		n.asItRuns(&st)
	}
	if n.sizesErr != nil && config.MaxInstances != nil {
		note("the size is a guess: %v", n.sizesErr)
	}
	if st.DesiredState == "stop" {
		st.Expected = 0
	}

	bounce, known := n.bounces[name]
	switch {
	case n.bouncesErr != nil:
		note("how its bounce is going is unknown: %v", n.bouncesErr)
	case !n.leads:
		note("no deployd leads cluster %s: nothing changes until one does", n.cluster)
	case known:
		st.Bounce = &bounce
	}

	n.running(&st)
	if n.marathonErr != nil {
		note("what runs is unknown, or not all of it: %v", n.marathonErr)
	}
	if reg := n.registration(name); reg != "" {
		n.smartstack(&st, reg)
	}
	if sound && n.notDeployed(st) {
		st.DeployStatus = "NotDeployed"
	}
	st.OK = sound && n.ok(st)
	return st
}

// newestOf returns the newest app of an instance, nil for none.
func (n *snapshot) newestOf(instance string) (*marathon.App, paasta.AppID) {
	apps, ids := n.appsOf(instance)
	newest := -1
	for i, app := range apps {
		if newest < 0 || app.Created.After(apps[newest].Created) {
			newest = i
		}
	}
	if newest < 0 {
		return nil, paasta.AppID{}
	}
	return &apps[newest], ids[newest]
}

// asItRuns says of an instance that soa-configs do not tell what its newest app
// is, and what tags ask of its deploy group.
func (n *snapshot) asItRuns(st *InstanceStatus) {
	app, id := n.newestOf(st.Instance)
	if app == nil {
		return
	}
	st.DeployGroup, st.GitSHA, st.GitUnknown = app.Labels[marathon.LabelDeployGroup], commitOf(*app, id), false
	if d := n.deployed.Groups[st.DeployGroup]; d.GitSHA != "" {
		st.GitSHA = d.GitSHA
	}
	st.Expected = app.Size
	if c, ok := n.deployed.Controls[st.Instance]; ok && c.DesiredState != "" {
		st.DesiredState = c.DesiredState
	}
}

// notDeployed tells whether nobody has asked for an instance yet: certainly no
// commit is marked for it, and nothing of it runs. That is how it is to be.
func (n *snapshot) notDeployed(st InstanceStatus) bool {
	return n.marathonErr == nil && n.deployedErr == nil && (n.deployed.Known || n.svc.GitURL == "") &&
		st.GitSHA == "" && st.AppCount == 0 && st.DeployStatus == "NotRunning"
}

// running fills in the apps and their tasks, and decides the deploy status.
func (n *snapshot) running(st *InstanceStatus) {
	apps, ids := n.appsOf(st.Instance)
	st.AppCount = len(apps)
	st.AppID = desiredApp(*st, apps, ids)
	var desired *marathon.App
	for i, app := range apps {
		v := Version{
			AppID: app.ID, GitSHA: commitOf(app, ids[i]), Config: ids[i].Config,
			Desired: app.ID == st.AppID, Size: app.Size, Created: app.Created, Tasks: []Task{},
		}
		for _, t := range app.Tasks {
			task := Task{ID: t.ID, Host: t.Host, State: t.State, Health: health(app, t), Started: t.StartedAt}
			if len(t.Ports) > 0 {
				task.Port = t.Ports[0]
			}
			v.Tasks = append(v.Tasks, task)
			if t.Running() {
				st.Running++
				if task.Health == "healthy" || task.Health == "none" {
					st.Healthy++
				}
			}
		}
		if f := app.LastFailure; f != nil {
			v.LastFailure = &Failure{Task: f.Task, Host: f.Host, State: f.State, Message: f.Message, Time: f.Time, ExitCode: f.ExitCode}
		}
		slices.SortFunc(v.Tasks, func(a, b Task) int { return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.ID, b.ID)) })
		st.Versions = append(st.Versions, v)
		if v.Desired {
			desired = &apps[i]
		}
	}
	slices.SortFunc(st.Versions, func(a, b Version) int {
		if a.Desired != b.Desired {
			if a.Desired {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.AppID, b.AppID))
	})
	if n.marathonErr != nil && desired == nil {
		return // it may run all the same
	}
	st.DeployStatus = n.deployStatus(st, desired)
}

// deployStatus decides as the original does, and fills in why tasks do not
// start.
func (n *snapshot) deployStatus(st *InstanceStatus, desired *marathon.App) string {
	if desired == nil {
		if st.Expected == 0 && st.Running == 0 {
			return "Stopped"
		}
		return "NotRunning"
	}
	overdue := false
	for _, q := range n.queue {
		if q.AppID == desired.ID {
			st.BackoffSeconds = int(q.Delay.Seconds())
			st.Rejected = q.Rejected
			overdue = q.Overdue
		}
	}
	switch {
	case overdue:
		return "Waiting"
	case st.BackoffSeconds > 0:
		return "Delayed"
	case len(desired.Deployments) > 0:
		return "Deploying"
	case desired.Size == 0 && st.Running == 0:
		return "Stopped"
	}
	return "Running"
}

// desiredApp is the app that should run: deployd's word, unless it is about
// another commit than the tags', which are newer then. Without its word it is
// the newest app of the commit.
func desiredApp(st InstanceStatus, apps []marathon.App, ids []paasta.AppID) string {
	if st.Bounce != nil && st.Bounce.App != "" {
		app := strings.TrimPrefix(st.Bounce.App, "/")
		id, err := paasta.ParseAppID(app)
		if err == nil && (st.GitSHA == "" || isCommit(id, st.GitSHA)) {
			return app
		}
		return ""
	}
	newest := -1
	for i := range apps {
		if st.GitSHA != "" && !isCommit(ids[i], st.GitSHA) {
			continue
		}
		if newest < 0 || apps[i].Created.After(apps[newest].Created) {
			newest = i
		}
	}
	if newest < 0 {
		return ""
	}
	return apps[newest].ID
}

func isCommit(id paasta.AppID, sha string) bool {
	return id.Git == "git"+sha[:min(8, len(sha))]
}

// commitOf is the commit of an app: all of it where the image's name tells.
func commitOf(app marathon.App, id paasta.AppID) string {
	short := strings.TrimPrefix(id.Git, "git")
	if _, sha, ok := strings.Cut(app.Image, ":paasta-"); ok && strings.HasPrefix(sha, short) {
		return sha
	}
	return short
}

// health says what Marathon's checks say about a task.
func health(app marathon.App, t marathon.Task) string {
	switch {
	case app.HealthChecks == 0:
		return "none"
	case t.Failing:
		return "unhealthy"
	case t.Alive >= app.HealthChecks:
		return "healthy"
	}
	return "unknown"
}

// smartstack fills in how the HAProxys see the primary registration.
func (n *snapshot) smartstack(st *InstanceStatus, registration string) {
	ns, found := n.namespace(registration)
	if !found {
		return
	}
	st.Smartstack = &SmartstackStatus{
		Registration: registration, ProxyPort: ns.ProxyPort,
		Expected: n.expected(registration), Hosts: n.views[registration], Agents: n.agents,
	}
	if st.Smartstack.Hosts == nil {
		st.Smartstack.Hosts = []AgentView{}
	}
	switch {
	case n.agentsErr != nil:
		st.Notes = append(st.Notes, fmt.Sprintf("the load balancers were not asked, or not all of them: %v", n.agentsErr))
	case n.agents == 0:
		st.Notes = append(st.Notes, "no host announces an agent: being healthy is enough to count as up")
	}
	for _, h := range st.Smartstack.Hosts {
		if h.Error != "" {
			st.Notes = append(st.Notes, fmt.Sprintf("the load balancer of %s was not asked: %s", h.Host, h.Error))
		}
	}
}

// ok tells whether an instance runs what was asked for, fully up. What is
// unknown is not ok, but for agents: one silent host of twenty is its own
// trouble, not the service's.
func (n *snapshot) ok(st InstanceStatus) bool {
	if n.marathonErr != nil || n.deployedErr != nil {
		return false
	}
	if st.Expected == 0 {
		return st.Running == 0
	}
	if st.GitSHA == "" || st.AppID == "" || st.AppCount != 1 || !st.Versions[0].Desired ||
		st.Running < st.Expected || st.Healthy < st.Expected {
		return false
	}
	if st.Bounce != nil && st.Bounce.State != "steady" {
		return false
	}
	if st.Smartstack == nil {
		return true
	}
	asked, silent := 0, 0
	for _, h := range st.Smartstack.Hosts {
		if h.Error != "" {
			silent++
			continue
		}
		asked++
		if h.fineOf(st.Versions[0].Tasks) < st.Expected {
			return false
		}
	}
	return asked > 0 || silent == 0
}

// fineOf counts the backends that belong to one of the tasks and are up, or are none
// that this agent's clients discover.
func (v AgentView) fineOf(tasks []Task) int {
	n := 0
	for _, b := range v.Backends {
		mine := func(t Task) bool { return b.TaskID == t.ID || (b.Host == t.Host && b.Port == t.Port) }
		if (b.Up || b.Status == paasta.BackendElsewhere) && slices.ContainsFunc(tasks, mine) {
			n++
		}
	}
	return n
}

package bounce

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan returns the next steps of a bounce, each with its reason. No steps means
// that it is done or waits, which Decision tells apart.
func Plan(s State) Decision {
	p := planner{State: s, need: needed(s.Method, s.Size, s.Margin)}
	// The newest first: where nothing else tells tasks apart, it is kept longest.
	newestFirst := slices.SortedFunc(slices.Values(s.Apps), func(a, b App) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	for _, app := range newestFirst {
		a := p.underWay(app)
		if a.ID == s.App && s.App != "" {
			p.next = a
		} else {
			p.others = append(p.others, a)
		}
	}
	p.own()
	p.old()
	return p.decide()
}

// killedAgain is after how long a kill that did nothing is made again.
const killedAgain = time.Minute

// underWay returns the app with those tasks marked of which it must be assumed
// that their kill is under way, and makes kills again that were lost. A kill
// lowers the app's size at once and the task goes later; who asked for it may
// have been a deployd that is no more. To kill one of them as if it were the
// first time would lower the size twice, and Marathon would take a task that
// serves.
func (p *planner) underWay(a App) *App {
	extra := -a.Size
	for _, t := range a.Tasks {
		if !t.Killing {
			extra++
		}
	}
	a.Tasks = slices.Clone(a.Tasks)
	for _, safe := range []bool{true, false} {
		for i := range a.Tasks {
			if t := &a.Tasks[i]; extra > 0 && t.Draining && !t.Killing && t.Safe == safe {
				t.Killing = true
				p.killed = append(p.killed, t.ID)
				extra--
			}
		}
	}
	for _, t := range a.Tasks {
		if t.Killing && !t.Killed.IsZero() && !t.Unreachable && p.Now.Sub(t.Killed) >= killedAgain {
			p.step(Step{
				Op: Kill, App: a.ID, Task: t.ID, Again: true,
				Why: fmt.Sprintf("it still runs, %s after it was killed", p.Now.Sub(t.Killed).Round(time.Second)),
			})
		}
	}
	return &a
}

// A planner collects the steps of one plan.
type planner struct {
	State
	need   int
	next   *App   // the app that should run; nil when it does not exist
	others []*App // all others, the newest first
	happy  int    // tasks of next that are happy and stay
	steps  []Step
	waits  []string
	killed []string // taken to have been killed by a deployd before this one
}

func (p *planner) step(s Step) { p.steps = append(p.steps, s) }

func (p *planner) wait(format string, args ...any) {
	p.waits = append(p.waits, fmt.Sprintf(format, args...))
}

// leaves is why a task on a host at risk goes.
const leaves = "its host goes for maintenance"

// landAgain is how long a task on a host at risk that nothing elsewhere replaces
// stays before another is started in its place, which may land no better.
const landAgain = 10 * time.Minute

// own plans the app that should run: its size, the surplus it must lose, and
// tasks that were drained and are wanted again.
func (p *planner) own() {
	if p.next == nil {
		return
	}
	var staying, risky []Task // not being killed
	happy, elsewhere := 0, 0  // of those, happy and not draining; and on hosts that stay
	for _, t := range p.next.Tasks {
		if t.Killing {
			continue
		}
		staying = append(staying, t)
		if t.AtRisk {
			risky = append(risky, t)
		}
		if useful(t) && !t.Draining {
			happy++
			if !t.AtRisk {
				elsewhere++
			}
		}
	}
	// Tasks on hosts that go for maintenance are replaced before they leave, by
	// tasks elsewhere: one that lands on such a host too asks for no other.
	replace := min(len(risky), max(p.Size-elsewhere, 0))
	want := p.Size + replace
	size := p.next.Size
	if size < want {
		why := fmt.Sprintf("%d of %d tasks are asked for", size, p.Size)
		if replace > 0 {
			why += fmt.Sprintf(", and %d are on hosts that go for maintenance", replace)
		}
		p.step(Step{Op: Scale, App: p.next.ID, Size: want, Before: size, Why: why})
	}

	surplus := min(len(staying), max(size, want)) - want
	// The least useful first, and of equals the youngest.
	slices.SortStableFunc(staying, func(a, b Task) int {
		return cmp.Or(before(a.Draining, b.Draining), before(!useful(a), !useful(b)),
			before(a.AtRisk, b.AtRisk), cmp.Compare(a.Health, b.Health),
			b.Started.Compare(a.Started), strings.Compare(a.ID, b.ID))
	})
	chosen := map[string]string{} // task → why it goes
	for _, t := range staying {
		if surplus <= 0 {
			break
		}
		surplus--
		if useful(t) && !t.Draining {
			happy--
		}
		chosen[t.ID] = fmt.Sprintf("%s, %d asked for", run(len(staying)), p.Size)
		if t.AtRisk && useful(t) {
			chosen[t.ID] = leaves
		}
	}
	remain := 0
	for _, t := range risky {
		switch {
		case chosen[t.ID] != "":
		case t.Draining:
			chosen[t.ID] = leaves
		case useful(t) && happy > p.Size && p.Now.Sub(t.Started) >= landAgain:
			happy--
			chosen[t.ID] = leaves
		default:
			remain++
		}
	}
	if remain > 0 {
		p.wait("%s on hosts that go for maintenance until others are happy elsewhere", stay(remain, "task"))
	}
	// Places that no task fills are given back, so that nothing more starts.
	if filled := max(len(staying), want); size > filled {
		p.step(Step{
			Op: Scale, App: p.next.ID, Size: filled, Before: size,
			Why: fmt.Sprintf("%s asked for, and %d of %d places are empty", plural(p.Size, "task"), size-len(staying), size),
		})
	}
	for _, t := range staying {
		if t.Draining && chosen[t.ID] == "" && !t.Unreachable {
			p.step(Step{Op: Undrain, App: p.next.ID, Task: t.ID, Why: "its app is the one that should run"})
		}
	}
	// What takes traffic again is judged by the next round, which asks the load
	// balancers about it.
	for _, t := range staying {
		if chosen[t.ID] == "" && t.Health == Happy && !t.Draining {
			p.happy++
		}
	}
	for _, t := range staying {
		if why := chosen[t.ID]; why != "" {
			p.remove(p.next.ID, t, why)
		}
	}
}

// useful tells tasks that serve from those that do not.
func useful(t Task) bool { return t.Health == Happy }

// before orders true before false.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// old plans all other apps: which of their tasks go now, and which stay until
// the new app can do without them.
func (p *planner) old() {
	type oldTask struct {
		Task
		app string
	}
	var serving []oldTask
	gone := true
	for _, a := range p.others {
		if a.Ghosts > 0 || a.Size > 0 {
			gone = false
		}
		for _, t := range a.Tasks {
			gone = false
			if !t.Draining && !t.Killing {
				serving = append(serving, oldTask{t, a.ID})
			}
		}
	}
	create, keep, why := p.Method.keep(progress{
		exists: p.next != nil, size: p.Size, need: p.need, happy: p.happy, old: len(serving), gone: gone,
	})
	if p.App == "" {
		create, keep, why = false, 0, "the instance is not configured any more"
	}
	if create && p.next == nil {
		p.step(Step{Op: Create, App: p.App, Size: p.Size, Why: "not in Marathon yet"})
	}
	if !create && p.App != "" && p.next == nil {
		p.wait("%s to go before the new app is created", plural(countTasks(p.others), "old task"))
	}
	// The happiest are kept, those on hosts that leave are not; the sort is
	// stable, so tasks of newer apps come first.
	slices.SortStableFunc(serving, func(a, b oldTask) int {
		return cmp.Or(cmp.Compare(b.Health, a.Health), before(!a.AtRisk, !b.AtRisk), a.Started.Compare(b.Started))
	})
	keep = min(keep, len(serving))
	kept := map[string]int{}
	happyKept := map[string]bool{}
	for _, t := range serving[:keep] {
		kept[t.app]++
		if t.Health == Happy {
			happyKept[t.app] = true
		}
	}
	if keep > 0 && p.next != nil {
		p.wait("%s, so %s", why, stay(keep, "old task"))
	}
	// An old app that serves well may replace what crashes while it is needed;
	// every other empty place is given back.
	spare := p.need - p.happy - keep
	for _, a := range p.others {
		if a.Ghosts > 0 {
			p.wait("%s: the registry lists %s more than Marathon", a.ID, plural(a.Ghosts, "task"))
			continue
		}
		running := 0
		for _, t := range a.Tasks {
			if !t.Killing {
				running++
			}
		}
		allowed := running
		if happyKept[a.ID] && spare > 0 {
			extra := min(spare, max(a.Size-running, 0))
			allowed += extra
			spare -= extra
		}
		if a.Size > allowed {
			p.step(Step{
				Op: Scale, App: a.ID, Size: allowed, Before: a.Size,
				Why: fmt.Sprintf("an old app starts no more tasks, and %d of its %d places are empty", a.Size-running, a.Size),
			})
		}
	}
	for _, t := range serving[keep:] {
		p.remove(t.app, t.Task, why)
	}
	for _, a := range p.others {
		for _, t := range a.Tasks {
			if t.Draining && !t.Killing {
				p.remove(a.ID, t, "drained")
			}
		}
	}
	for _, a := range p.others {
		if len(a.Tasks) == 0 && a.Size == 0 && a.Ghosts == 0 {
			p.step(Step{Op: Delete, App: a.ID, Why: "no tasks left"})
		}
	}
}

// remove takes a task one step further on its way out: drain it, wait, kill it.
func (p *planner) remove(app string, t Task, why string) {
	switch {
	case t.Unreachable:
		p.wait("%s cannot be reached", t.ID)
	case t.Safe:
		if t.Draining {
			why = cmp.Or(t.SafeWhy, "drained")
		}
		p.step(Step{Op: Kill, App: app, Task: t.ID, Why: why})
	case t.Draining:
		p.wait("%s drains", t.ID)
	default:
		p.step(Step{Op: Drain, App: app, Task: t.ID, Why: why})
	}
}

// decide puts the steps in order and says whether anything is left to do.
func (p *planner) decide() Decision {
	slices.SortStableFunc(p.steps, func(a, b Step) int { return cmp.Compare(a.Op, b.Op) })
	if len(p.steps) > 0 {
		return Decision{Steps: p.steps, Waits: strings.Join(p.waits, "; "), Killed: p.killed}
	}
	old := countTasks(p.others)
	switch {
	case p.App != "" && p.next == nil:
	case p.next != nil && p.happy < p.Size && len(p.waits) == 0:
		p.wait("%d of %d tasks are happy", p.happy, p.Size)
	case p.next != nil && len(p.next.Tasks) != p.Size && len(p.waits) == 0:
		p.wait("%s, %d asked for", run(len(p.next.Tasks)), p.Size)
	case len(p.waits) == 0 && old > 0:
		p.wait("%s to go", plural(old, "old task"))
	}
	done := len(p.waits) == 0 && len(p.others) == 0 && (p.next != nil || p.App == "")
	if !done && len(p.waits) == 0 {
		p.wait("%s to go", plural(len(p.others), "old app"))
	}
	return Decision{Done: done, Waits: strings.Join(p.waits, "; "), Killed: p.killed}
}

func countTasks(apps []*App) int {
	n := 0
	for _, a := range apps {
		n += len(a.Tasks)
	}
	return n
}

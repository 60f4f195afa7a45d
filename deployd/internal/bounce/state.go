// Package bounce decides how an instance moves from what runs to what should
// run. Plan is pure: same State in, same Decision out. It never reads the clock
// and never calls anybody; package worker reads the State and carries the steps
// out, again and again until there are none.
package bounce

import (
	"fmt"
	"time"
)

// State is everything a bounce may look at, read in one pass.
type State struct {
	Now    time.Time
	Method Method
	Margin float64 // crossover: share of Size that must stay happy, in (0, 1]
	App    string  // the app that should run; "" when none should
	Size   int     // how many tasks it should have
	Apps   []App   // all apps of the instance, App among them if it exists
}

// An App is one app of the instance.
type App struct {
	ID      string
	Size    int // as Marathon has it
	Created time.Time
	Tasks   []Task
	// Ghosts counts entries in the registry that still send traffic to tasks of
	// this app that Marathon does not list. Marathon may have forgotten them
	// while they serve, so the app is not touched until they are explained.
	Ghosts int
}

// A Task is one task of an app.
type Task struct {
	ID      string
	Health  Health
	Started time.Time
	// Killing: somebody has killed it and it is not gone yet.
	Killing bool
	// Killed is when it was killed, if Marathon has not begun with that: such a
	// kill may have been lost. Zero otherwise.
	Killed time.Time
	// Draining: it has been told to take no more traffic.
	Draining bool
	// Safe: nothing is lost by killing it now. A draining task is safe once it
	// has drained; one that never took traffic is safe at once.
	Safe bool
	// SafeWhy says why a draining task is safe to kill, "" for that it drained: it
	// may be that it drained for as long as it may.
	SafeWhy string
	// AtRisk: its host is about to go for maintenance.
	AtRisk bool
	// Unreachable: its agent does not answer; it can neither be drained nor
	// killed before it comes back or is given up.
	Unreachable bool
}

// Health orders tasks by what they are worth.
type Health int

// The healths, worst first.
const (
	NotRunning Health = iota // staging, starting
	Unhealthy                // runs; fails its checks, or has no result yet
	Healthy                  // passes its checks; not seen in the load balancers
	Happy                    // and takes traffic
)

func (h Health) String() string {
	switch h {
	case NotRunning:
		return "not running"
	case Unhealthy:
		return "unhealthy"
	case Healthy:
		return "healthy"
	case Happy:
		return "happy"
	}
	return fmt.Sprintf("Health(%d)", int(h))
}

// An Op is what a step does.
type Op int

// The ops, in the order in which a plan has them.
const (
	Create  Op = iota // an app with N tasks
	Scale             // an app to N tasks; never makes Marathon kill anything
	Undrain           // a task
	Drain             // a task
	Kill              // a task, lowering its app's size
	Delete            // an app without tasks
)

func (o Op) String() string {
	switch o {
	case Create:
		return "create"
	case Scale:
		return "scale"
	case Undrain:
		return "undrain"
	case Drain:
		return "drain"
	case Kill:
		return "kill"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("Op(%d)", int(o))
}

// A Step is one change to make, and why. Why goes to the deploy log as it is.
type Step struct {
	Op     Op
	App    string
	Task   string // for Undrain, Drain, Kill
	Size   int    // for Create and Scale
	Before int    // for Scale: the size that the decision rests on
	Again  bool   // for Kill: an earlier kill has lowered the app's size already
	Why    string
}

// Target is what the step changes: a task or an app.
func (s Step) Target() string {
	if s.Task != "" {
		return s.Task
	}
	return s.App
}

func (s Step) String() string {
	target := s.Target()
	if s.Op == Create || s.Op == Scale {
		target += " (" + plural(s.Size, "task") + ")"
	}
	return fmt.Sprintf("%s %s: %s", s.Op, target, s.Why)
}

// A Decision is what to do next.
type Decision struct {
	Steps []Step
	// Done: everything is as it should be. With no steps and not done, the
	// bounce waits for what Waits says.
	Done  bool
	Waits string
	// Killed are tasks of which it is taken that somebody else, a deployd before
	// this one, has killed them: their State.Killed should be now.
	Killed []string
}

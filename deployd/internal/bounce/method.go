package bounce

import (
	"fmt"
	"math"
)

// A Method says how old tasks make room for new ones.
type Method string

// The methods.
const (
	Brutal     Method = "brutal"     // start the new, drain all the old at once
	UpThenDown Method = "upthendown" // drain the old once all the new are happy
	Crossover  Method = "crossover"  // drain one old for each new that is happy
	DownThenUp Method = "downthenup" // start the new once all the old are gone
)

// MethodNamed returns the method of that name.
func MethodNamed(name string) (Method, error) {
	switch m := Method(name); m {
	case Brutal, UpThenDown, Crossover, DownThenUp:
		return m, nil
	}
	return "", fmt.Errorf("unknown bounce method %q (known: brutal, crossover, downthenup, upthendown)", name)
}

// progress is what a method looks at.
type progress struct {
	exists bool // the new app
	size   int
	need   int // happy tasks that must stay up
	happy  int // tasks of the new app that are happy and stay
	old    int // tasks of other apps that are not draining
	gone   bool
}

// keep returns whether the new app should exist, how many of the old tasks stay
// for now, and why no more of them go.
func (m Method) keep(p progress) (create bool, keep int, why string) {
	have := fmt.Sprintf("%d of %d new tasks are happy", p.happy, p.size)
	switch m {
	case Brutal:
		return true, 0, "brutal: all old tasks go at once"
	case DownThenUp:
		return p.gone, 0, "downthenup: old tasks go before new ones come"
	case UpThenDown:
		// At least, not exactly: more than enough is enough.
		if p.exists && p.happy >= p.size {
			return true, 0, have
		}
		return true, p.old, have
	default:
		return true, max(p.need-p.happy, 0), have
	}
}

// needed returns how many happy tasks an instance of a size must keep.
func needed(m Method, size int, margin float64) int {
	switch m {
	case Brutal, DownThenUp:
		return 0
	case UpThenDown:
		return size
	}
	if margin <= 0 || margin > 1 {
		margin = 1
	}
	// Less a hair: 100 * 0.55 is 55.000000000000007.
	return min(size, int(math.Ceil(float64(size)*margin-1e-9)))
}

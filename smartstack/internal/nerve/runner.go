package nerve

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A Status is what a service of this host is like now.
type Status struct {
	Service       string    `json:"service"`
	File          string    `json:"file"`
	Registrations []string  `json:"registrations"`
	Address       string    `json:"address"`
	Up            bool      `json:"up"`
	Why           string    `json:"why,omitempty"`     // the check that fails, and how
	Weight        int       `json:"weight"`            // that is published; 0 while draining
	Pending       bool      `json:"pending,omitempty"` // the registry does not hold that yet
	Drain         *Drain    `json:"drain,omitempty"`
	Since         time.Time `json:"since"`   // of Up
	Checked       time.Time `json:"checked"` // end of the last round
}

func address(e registry.Entry) string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// A runner checks one service and says what should be published for it.
type runner struct {
	service  soaconfig.LocalService
	entry    registry.Entry // with the configured weight
	drainDir string
	publish  func(*publication) // nil takes it out
	now      func() time.Time
	log      *slog.Logger

	mu     sync.Mutex
	status Status
	health []health
}

// wasUp makes the runner start from "up": its entries are published already,
// and only checks that fail take them out.
func (r *runner) wasUp() {
	for i := range r.health {
		r.health[i].assumeUp()
	}
}

func newRunner(s soaconfig.LocalService, e registry.Entry, drainDir string, publish func(*publication), now func() time.Time, log *slog.Logger) *runner {
	r := &runner{service: s, entry: e, drainDir: drainDir, publish: publish, now: now, log: log.With("service", s.Name)}
	for _, c := range s.Checks {
		r.health = append(r.health, health{rise: c.Rise, fall: c.Fall})
	}
	r.status = Status{Service: s.Name, File: s.File, Registrations: s.Registrations, Address: address(e), Since: now()}
	return r
}

// Run checks until ctx ends. It leaves what is published as it is: whoever
// stops it knows whether another runner goes on.
func (r *runner) Run(ctx context.Context, wake <-chan struct{}) {
	var published *publication
	first, unreadable := true, ""
	for {
		up, why := r.round(ctx)
		if ctx.Err() != nil {
			return
		}
		drain, err := ReadDrain(r.drainDir, r.service.Name, r.now())
		if err != nil {
			// Unknown is no reason to change what is published.
			drain = r.Status().Drain
			if err.Error() != unreadable {
				r.log.Warn("drain file not readable", "err", err)
			}
			unreadable = err.Error()
		} else {
			unreadable = ""
		}
		want := r.want(up, drain)
		if first || !reflect.DeepEqual(published, want) {
			r.publish(want)
			published = want
		}
		r.record(up, why, drain)

		pause := r.service.CheckInterval
		if first {
			pause = rand.N(pause) // on a host that starts all begin at once, and are not to go on so
		}
		first = false
		pause = untilNext(r.now(), pause, r.service.CheckInterval)
		if drain != nil && drain.Expiration != nil {
			pause = min(pause, max(drain.Until().Sub(r.now()), time.Millisecond))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// beat is what checks keep to, if their interval allows it: a process that wakes up
// twice a second and makes 25 checks each time does much less than one that wakes up
// for each of them. Without it 100 local services cost 1.9% of a core instead of
// 0.5%, measured in one go; the aim is under 1%.
const beat = 500 * time.Millisecond

// untilNext returns how long to wait so that a pause ends on the nearest beat. A
// check that takes less than half a beat has its interval exactly.
func untilNext(now time.Time, pause, interval time.Duration) time.Duration {
	end := now.Add(pause).Round(min(beat, interval/4))
	return max(end.Sub(now), 0)
}

func (r *runner) want(up bool, drain *Drain) *publication {
	if !up {
		return nil
	}
	p := publication{r.service.Registrations, r.entry}
	if drain != nil {
		p.entry.Weight = 0
	}
	return &p
}

// round runs every check once, side by side, and returns whether the service
// counts as up; why is the first failure in the order of the file.
func (r *runner) round(ctx context.Context) (up bool, why string) {
	results := make([]error, len(r.service.Checks))
	var wg sync.WaitGroup
	for i, c := range r.service.Checks {
		if i == len(results)-1 { // most services have one check, which takes no goroutine
			results[i] = check(ctx, c)
			break
		}
		wg.Go(func() { results[i] = check(ctx, c) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return false, ""
	}
	up = true
	for i, err := range results {
		if !r.health[i].add(err == nil) {
			up = false
			if why == "" && err != nil {
				why = err.Error()
			} else if why == "" {
				why = r.service.Checks[i].Type + ": passed, and not often enough yet"
			}
		}
	}
	return up, why
}

func (r *runner) record(up bool, why string, drain *Drain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.status
	r.status.Up, r.status.Why, r.status.Drain, r.status.Checked = up, why, drain, r.now()
	r.status.Weight = r.entry.Weight
	if drain != nil {
		r.status.Weight = 0
	}
	if before.Up != up || before.Checked.IsZero() {
		r.status.Since = r.status.Checked
		if up {
			r.log.Info("local service is up", "address", r.status.Address)
		} else {
			r.log.Warn("local service is down", "address", r.status.Address, "why", why)
		}
	}
	if (before.Drain == nil) != (drain == nil) {
		r.log.Info("local service drain changed", "draining", drain != nil)
	}
}

// Status returns a copy of what is known now.
func (r *runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

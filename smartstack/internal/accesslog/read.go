package accesslog

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

// Requests returns what is known about the requests to a service and those
// that it makes itself, within a window of up to LongestWindow. Of the answer it
// fills in all but Host, Tasks, and Log.Dropped and Log.Queue.
func (c *Counter) Requests(name string, window time.Duration) paasta.AgentMetrics {
	now := c.now()
	from, within := windowOf(window, now)
	m := paasta.AgentMetrics{
		Service: name, At: now, Series: []paasta.RequestSeries{}, Calls: []paasta.Call{}, Versions: []paasta.VersionRequests{},
		Log: paasta.AgentLog{Lines: c.lines.Load(), Foreign: c.foreign.Load() + c.refused.Load()},
	}
	var begun time.Time // when the first of the services that count here was first asked
	for _, s := range c.all() {
		s.mu.Lock()
		asked, counts := paasta.BelongsTo(s.registration, name), false
		for k, x := range s.series {
			if !asked && !paasta.BelongsTo(k.caller.name, name) {
				continue
			}
			counts = true
			if h := x.in(within); h.Count > 0 {
				m.Series = append(m.Series, paasta.RequestSeries{
					Registration: s.registration, Server: k.server.name, Instance: k.server.Instance, TaskID: k.server.TaskID, Version: k.server.Version,
					Endpoint: k.endpoint.name, Caller: k.caller.name, Class: k.class, Latency: h,
				})
			}
		}
		for k, x := range s.calls {
			if asked || paasta.BelongsTo(k.caller.name, name) {
				m.Calls = append(m.Calls, paasta.Call{
					Registration: s.registration, Endpoint: k.endpoint.name, Caller: k.caller.name,
					Requests: x.count, Errors: x.errors, First: x.first, Last: x.last,
				})
			}
		}
		if (asked || counts) && (begun.IsZero() || s.begun.Before(begun)) {
			begun = s.begun
		}
		if asked {
			for _, v := range s.versions {
				m.Versions = append(m.Versions, v.requests(s.registration))
			}
		}
		s.mu.Unlock()
	}
	if begun.After(from) {
		from = begun
	}
	m.Seconds = max(now.Sub(from).Seconds(), 1)
	slices.SortFunc(m.Series, func(a, b paasta.RequestSeries) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), strings.Compare(a.Endpoint, b.Endpoint), strings.Compare(a.Server, b.Server),
			strings.Compare(a.Version, b.Version), strings.Compare(a.Caller, b.Caller), strings.Compare(a.Class, b.Class))
	})
	slices.SortFunc(m.Calls, func(a, b paasta.Call) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), strings.Compare(a.Endpoint, b.Endpoint), strings.Compare(a.Caller, b.Caller))
	})
	slices.SortFunc(m.Versions, func(a, b paasta.VersionRequests) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), a.Since.Compare(b.Since), strings.Compare(a.Version, b.Version))
	})
	return m
}

// slotRange are the slots from the first to the last one.
type slotRange struct{ first, last int64 }

// windowOf returns when a window begins, and its slots.
func windowOf(window time.Duration, now time.Time) (from time.Time, within slotRange) {
	window = min(max(window, slot), LongestWindow)
	first := slotOf(now.Add(-window)) + 1
	if now.UnixNano()%int64(slot) < int64(slot/2) {
		first-- // so that it is not much shorter than was asked for
	}
	return time.Unix(0, first*int64(slot)), slotRange{first, slotOf(now) + 1} // a clock that was ahead by moments
}

// in adds up the cells of some slots.
func (x *series) in(slots slotRange) paasta.Histogram {
	var h paasta.Histogram
	for i := range x.cells {
		if n := x.cells[i].slot; n >= slots.first && n <= slots.last {
			h.Add(x.cells[i].latency)
		}
	}
	return h
}

func (v *version) requests(registration string) paasta.VersionRequests {
	r := paasta.VersionRequests{Registration: registration, Version: v.name, Since: v.since, Last: v.last, Gone: v.gone, Endpoints: []paasta.VersionEndpoint{}}
	all := map[*endpoint]*paasta.VersionEndpoint{}
	for _, part := range []map[*endpoint]*paasta.VersionEndpoint{v.earlier, v.now} {
		for e, x := range part {
			sum := getOrAdd(all, e, math.MaxInt)
			sum.Endpoint = e.name
			sum.Errors += x.Errors
			sum.Latency.Add(x.Latency)
		}
	}
	for _, x := range all {
		r.Endpoints = append(r.Endpoints, *x)
	}
	slices.SortFunc(r.Endpoints, func(a, b paasta.VersionEndpoint) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return r
}

// jsonWindow is what the statistics of Dropwizard's timers are made of: their
// own reservoir forgets at about that pace.
const jsonWindow = 5 * time.Minute

// AddTo adds a timer for each endpoint, <registration>.<endpoint>, and a counter
// for each class of its answers, <registration>.<endpoint>.<class>.
func (c *Counter) AddTo(view dropwizard.View) {
	_, within := windowOf(jsonWindow, c.now())
	for _, s := range c.all() {
		s.mu.Lock()
		recent := map[*endpoint]*paasta.Histogram{}
		for k, x := range s.series {
			name := s.registration + "." + k.endpoint.name
			count := view.Counters[name+"."+k.class]
			count.Count += float64(x.total.Count)
			view.Counters[name+"."+k.class] = count
			getOrAdd(recent, k.endpoint, math.MaxInt).Add(x.in(within))
		}
		for e, h := range recent {
			rates := dropwizard.Rates{}
			if e.meter != nil {
				rates = e.meter.Rates()
			}
			const ms = 1000 // µs
			view.Timers[s.registration+"."+e.name] = dropwizard.TimerViewOf(dropwizard.Summary{
				Count: rates.Count, Min: float64(h.Min) / ms, Max: float64(h.Max) / ms, Mean: h.Mean() / ms, StdDev: h.StdDev() / ms,
				P50: h.Quantile(.5) / ms, P75: h.Quantile(.75) / ms, P95: h.Quantile(.95) / ms, P98: h.Quantile(.98) / ms, P99: h.Quantile(.99) / ms, P999: h.Quantile(.999) / ms,
			}, rates)
		}
		s.mu.Unlock()
	}
}

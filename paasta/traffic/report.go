package traffic

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// A Report answers questions about one service. Times are milliseconds.
type Report struct {
	Service string  `json:"service"`
	Seconds float64 `json:"seconds"` // the window; of the agent that counts longest
	Agents  int     `json:"agents"`  // that were heard
	// Requests, per second and in the window, to all registrations.
	Requests uint64  `json:"requests"`
	QPS      float64 `json:"qps"`

	Endpoints  []Endpoint           `json:"endpoints"`
	Backends   []Backend            `json:"backends"`
	Callers    []Caller             `json:"callers"`
	Downstream []Downstream         `json:"downstream"`
	Versions   []Comparison         `json:"versions"` // one a registration with more than one version
	Tasks      []paasta.TaskMetrics `json:"tasks"`
	// Lines of HAProxy's log that agents counted and that they know they have
	// missed, since they started.
	LinesCounted int64 `json:"lines_counted"`
	LinesDropped int64 `json:"lines_dropped"`
}

// Counts are requests that have something in common.
type Counts struct {
	Requests uint64  `json:"requests"`
	QPS      float64 `json:"qps"`
	Errors   uint64  `json:"errors"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

// ErrorShare is between 0 and 1.
func (c Counts) ErrorShare() float64 {
	if c.Requests == 0 {
		return 0
	}
	return float64(c.Errors) / float64(c.Requests)
}

// An Endpoint is what was asked of a registration.
type Endpoint struct {
	Registration string `json:"registration"`
	Endpoint     string `json:"endpoint"`
	Counts
	Classes map[string]uint64 `json:"classes"` // 2xx, 5xx, …
}

// A Backend is who answered.
type Backend struct {
	Registration string `json:"registration"`
	Server       string `json:"server"`
	Instance     string `json:"instance,omitempty"`
	TaskID       string `json:"task_id,omitempty"`
	Version      string `json:"version,omitempty"`
	Counts
	Verdict Verdict `json:"verdict"` // compared with the other backends
	Why     string  `json:"why,omitempty"`
}

// A Caller is who asks for an endpoint.
type Caller struct {
	Registration string `json:"registration"`
	Endpoint     string `json:"endpoint"`
	Caller       string `json:"caller"`
	// QPS is of the window; the others of up to a week.
	QPS      float64   `json:"qps"`
	Requests uint64    `json:"requests"`
	Errors   uint64    `json:"errors"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// A Downstream is a registration that the service asks.
type Downstream struct {
	Registration string `json:"registration"`
	Counts
	// Share is its part of all time that the service waits for others, 0 to 1.
	Share float64 `json:"share"`
	// Waiting is how many of its requests are under way on average.
	Waiting float64 `json:"waiting"`
	// PerRequest is how often it is asked for each request that the service gets;
	// 0 when it gets none.
	PerRequest float64 `json:"per_request"`
}

// tally adds up requests over hosts.
type tally struct {
	latency paasta.Histogram
	errors  uint64
	qps     float64
	classes map[string]uint64
}

func (t *tally) add(s paasta.RequestSeries, seconds float64) {
	t.latency.Add(s.Latency)
	t.qps += float64(s.Latency.Count) / max(seconds, 1)
	if paasta.IsErrorClass(s.Class) {
		t.errors += s.Latency.Count
	}
	if t.classes == nil {
		t.classes = map[string]uint64{}
	}
	t.classes[s.Class] += s.Latency.Count
}

func (t *tally) counts() Counts { return countsOf(t.latency, t.errors, t.qps) }

func countsOf(h paasta.Histogram, errors uint64, qps float64) Counts {
	return Counts{
		Requests: h.Count, QPS: round(qps), Errors: errors, Mean: ms(h.Mean()),
		P50: ms(h.Quantile(.5)), P95: ms(h.Quantile(.95)), P99: ms(h.Quantile(.99)), Max: ms(float64(h.Max)),
	}
}

func ms(us float64) float64   { return round(us / 1000) }
func round(x float64) float64 { return math.Round(x*1000) / 1000 }

// find returns the value of a key, made when it is not there.
func find[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}

// New makes the report of a service from what each agent counted. desired tells
// which version should run, where that is known (nil: nowhere).
func New(service string, agents []paasta.AgentMetrics, desired func(version string) bool) Report {
	r := Report{
		Service: service, Agents: len(agents), Endpoints: []Endpoint{}, Backends: []Backend{}, Callers: []Caller{}, Downstream: []Downstream{},
		Versions: []Comparison{}, Tasks: []paasta.TaskMetrics{},
	}
	type pair struct{ registration, what string }
	type asker struct{ registration, endpoint, caller string }
	endpoints, downstream := map[pair]*tally{}, map[string]*tally{}
	backends := map[backendKey]*backendTally{}
	callers := map[asker]*Caller{}
	for _, a := range agents {
		r.Seconds = max(r.Seconds, round(a.Seconds))
		r.LinesCounted += a.Log.Lines
		r.LinesDropped += a.Log.Dropped
		r.Tasks = append(r.Tasks, a.Tasks...)
		for _, s := range a.Series {
			if paasta.BelongsTo(s.Caller, service) {
				find(downstream, s.Registration).add(s, a.Seconds)
			}
			if !paasta.BelongsTo(s.Registration, service) {
				continue
			}
			r.Requests += s.Latency.Count
			r.QPS += float64(s.Latency.Count) / max(a.Seconds, 1)
			find(endpoints, pair{s.Registration, s.Endpoint}).add(s, a.Seconds)
			find(backends, backendKey{s.Registration, s.Server, s.Version, s.Instance, s.TaskID}).add(s, a.Seconds)
			find(callers, asker{s.Registration, s.Endpoint, s.Caller}).QPS += float64(s.Latency.Count) / max(a.Seconds, 1)
		}
		for _, c := range a.Calls {
			if !paasta.BelongsTo(c.Registration, service) {
				continue
			}
			x := find(callers, asker{c.Registration, c.Endpoint, c.Caller})
			x.Requests += c.Requests
			x.Errors += c.Errors
			if x.First.IsZero() || c.First.Before(x.First) {
				x.First = c.First
			}
			if c.Last.After(x.Last) {
				x.Last = c.Last
			}
		}
	}
	r.QPS = round(r.QPS)
	for k, t := range endpoints {
		r.Endpoints = append(r.Endpoints, Endpoint{k.registration, k.what, t.counts(), t.classes})
	}
	slices.SortFunc(r.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Endpoint, b.Endpoint))
	})
	for k, c := range callers {
		c.Registration, c.Endpoint, c.Caller, c.QPS = k.registration, k.endpoint, k.caller, round(c.QPS)
		r.Callers = append(r.Callers, *c)
	}
	slices.SortFunc(r.Callers, func(a, b Caller) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), strings.Compare(a.Endpoint, b.Endpoint), cmp.Compare(b.QPS, a.QPS), strings.Compare(a.Caller, b.Caller))
	})
	r.Backends = compareBackends(backends)
	r.Downstream = costs(downstream, r.Requests, r.Seconds)
	r.Versions = compareVersions(service, agents, desired)
	slices.SortFunc(r.Tasks, func(a, b paasta.TaskMetrics) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), strings.Compare(a.Server, b.Server), strings.Compare(a.TaskID, b.TaskID))
	})
	return r
}

// costs says which downstream service is waited for most.
func costs(downstream map[string]*tally, requests uint64, seconds float64) []Downstream {
	all := []Downstream{}
	var sum float64
	for _, t := range downstream {
		sum += float64(t.latency.Sum)
	}
	for name, t := range downstream {
		d := Downstream{Registration: name, Counts: t.counts(), Waiting: round(float64(t.latency.Sum) / 1e6 / max(seconds, 1))}
		if sum > 0 {
			d.Share = round(float64(t.latency.Sum) / sum)
		}
		if requests > 0 {
			d.PerRequest = round(float64(t.latency.Count) / float64(requests))
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Downstream) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), strings.Compare(a.Registration, b.Registration))
	})
	return all
}

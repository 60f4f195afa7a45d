package traffic

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// A Comparison sets the newest version of a registration beside the one before.
type Comparison struct {
	Registration string `json:"registration"`
	Before       Side   `json:"before"`
	After        Side   `json:"after"`
	// Latency and Errors are what all endpoints come to: worse when any is.
	Latency   Verdict            `json:"latency"`
	Errors    Verdict            `json:"errors"`
	Endpoints []EndpointCompared `json:"endpoints"` // most requests first
}

// A Side is one version in a comparison.
type Side struct {
	Version string    `json:"version"`
	Since   time.Time `json:"since"` // its first request
	Last    time.Time `json:"last"`
	Counts            // of the last one or two hours in which it was asked; without QPS
}

// An EndpointCompared is one endpoint of two versions.
type EndpointCompared struct {
	Endpoint string `json:"endpoint"`
	Before   Counts `json:"before"`
	After    Counts `json:"after"`
	P50      Change `json:"p50_ms"`
	P95      Change `json:"p95_ms"`
	P99      Change `json:"p99_ms"`
	Errors   Change `json:"error_share"`
}

// Latency is what the quantiles come to.
func (e EndpointCompared) Latency() Verdict {
	return worst(e.P50.Verdict, e.P95.Verdict, e.P99.Verdict)
}

// version is one version as all agents saw it.
type version struct {
	name        string
	since, last time.Time
	gone        bool
	endpoints   map[string]*paasta.VersionEndpoint
}

func (v *version) side() Side {
	var all paasta.Histogram
	var errors uint64
	for _, e := range v.endpoints {
		all.Add(e.Latency)
		errors += e.Errors
	}
	return Side{Version: v.name, Since: v.since, Last: v.last, Counts: countsOf(all, errors, 0)}
}

// compareVersions compares the newest two versions of each registration.
func compareVersions(service string, agents []paasta.AgentMetrics, desired func(string) bool) []Comparison {
	registrations := map[string]map[string]*version{}
	for _, a := range agents {
		for _, v := range a.Versions {
			if !paasta.BelongsTo(v.Registration, service) {
				continue
			}
			if registrations[v.Registration] == nil {
				registrations[v.Registration] = map[string]*version{}
			}
			x := registrations[v.Registration][v.Version]
			if x == nil {
				x = &version{name: v.Version, since: v.Since, gone: true, endpoints: map[string]*paasta.VersionEndpoint{}}
				registrations[v.Registration][v.Version] = x
			}
			if v.Since.Before(x.since) {
				x.since = v.Since
			}
			if v.Last.After(x.last) {
				x.last = v.Last
			}
			x.gone = x.gone && v.Gone
			for _, e := range v.Endpoints {
				sum := find(x.endpoints, e.Endpoint)
				sum.Errors += e.Errors
				sum.Latency.Add(e.Latency)
			}
		}
	}
	all := []Comparison{}
	for name, versions := range registrations {
		before, after := newestTwo(versions, desired)
		if before != nil {
			all = append(all, compare(name, before, after))
		}
	}
	slices.SortFunc(all, func(a, b Comparison) int { return strings.Compare(a.Registration, b.Registration) })
	return all
}

// newestTwo returns the version that should run, or else the one that came
// last, and of the others the one that was asked last. before is nil when there
// is only one.
func newestTwo(versions map[string]*version, desired func(string) bool) (before, after *version) {
	list := make([]*version, 0, len(versions))
	for _, v := range versions {
		list = append(list, v)
	}
	wanted := func(v *version) int {
		if desired != nil && desired(v.name) {
			return 1
		}
		return 0
	}
	present := func(v *version) int {
		if v.gone {
			return 0
		}
		return 1
	}
	slices.SortFunc(list, func(a, b *version) int {
		return cmp.Or(cmp.Compare(wanted(b), wanted(a)), cmp.Compare(present(b), present(a)), b.since.Compare(a.since), strings.Compare(a.name, b.name))
	})
	if len(list) < 2 {
		return nil, nil
	}
	after = list[0]
	before = slices.MaxFunc(list[1:], func(a, b *version) int { return cmp.Or(a.last.Compare(b.last), strings.Compare(b.name, a.name)) })
	return before, after
}

func compare(registration string, before, after *version) Comparison {
	c := Comparison{Registration: registration, Before: before.side(), After: after.side(), Endpoints: []EndpointCompared{}}
	var names []string
	for name := range after.endpoints {
		if before.endpoints[name] != nil {
			names = append(names, name)
		}
	}
	const perEndpoint = 4
	z := zScore(perEndpoint * len(names))
	var latency, errors []Verdict
	for _, name := range names {
		b, a := before.endpoints[name], after.endpoints[name]
		e := EndpointCompared{
			Endpoint: name, Before: countsOf(b.Latency, b.Errors, 0), After: countsOf(a.Latency, a.Errors, 0),
			P50:    compareQuantile(b.Latency, a.Latency, .5, z),
			P95:    compareQuantile(b.Latency, a.Latency, .95, z),
			P99:    compareQuantile(b.Latency, a.Latency, .99, z),
			Errors: compareErrors(b.Errors, b.Latency.Count, a.Errors, a.Latency.Count, z),
		}
		latency, errors = append(latency, e.Latency()), append(errors, e.Errors.Verdict)
		c.Endpoints = append(c.Endpoints, e)
	}
	c.Latency, c.Errors = worst(latency...), worst(errors...)
	slices.SortFunc(c.Endpoints, func(a, b EndpointCompared) int {
		return cmp.Or(cmp.Compare(b.After.Requests+b.Before.Requests, a.After.Requests+a.Before.Requests), strings.Compare(a.Endpoint, b.Endpoint))
	})
	return c
}

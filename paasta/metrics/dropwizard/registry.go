package dropwizard

import (
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"time"
)

// A Registry holds a service's metrics by name. Asking twice for a name gives
// the same metric.
type Registry struct {
	now func() time.Time

	mu         sync.Mutex
	counters   map[string]*Counter
	gauges     map[string]func() float64
	histograms map[string]*Histogram
	meters     map[string]*Meter
	timers     map[string]*Timer
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return newRegistry(time.Now) }

func newRegistry(now func() time.Time) *Registry {
	return &Registry{
		now:        now,
		counters:   map[string]*Counter{},
		gauges:     map[string]func() float64{},
		histograms: map[string]*Histogram{},
		meters:     map[string]*Meter{},
		timers:     map[string]*Timer{},
	}
}

// A Counter goes up, and down by negative amounts.
type Counter struct {
	mu    sync.Mutex
	count float64
}

// Inc adds n, unless that is not a number.
func (c *Counter) Inc(n float64) {
	if !finite(n) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count += n
}

// finite tells numbers that JSON can say from those that would cost a service
// all of its metrics.
func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// Count returns the sum of all Incs.
func (c *Counter) Count() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// A Timer measures durations, in milliseconds, and their rate.
type Timer struct {
	meter     *Meter
	histogram *Histogram
}

// Update adds a duration; a negative one, from a clock that jumped, is ignored.
func (t *Timer) Update(d time.Duration) {
	if d < 0 {
		return
	}
	t.meter.Mark(1)
	t.histogram.Update(float64(d) / float64(time.Millisecond))
}

// Summary returns the statistics of the durations, in milliseconds.
func (t *Timer) Summary() Summary { return t.histogram.Summary() }

// Rates returns the calls per second.
func (t *Timer) Rates() Rates { return t.meter.Rates() }

func get[T any](r *Registry, m map[string]T, name string, make func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := m[name]
	if !ok {
		v = make()
		m[name] = v
	}
	return v
}

// Counter returns the counter called name.
func (r *Registry) Counter(name string) *Counter {
	return get(r, r.counters, name, func() *Counter { return new(Counter) })
}

// Meter returns the meter called name.
func (r *Registry) Meter(name string) *Meter {
	return get(r, r.meters, name, func() *Meter { return newMeter(r.now) })
}

// Histogram returns the histogram called name.
func (r *Registry) Histogram(name string) *Histogram {
	return get(r, r.histograms, name, func() *Histogram { return newHistogram(r.now) })
}

// Timer returns the timer called name.
func (r *Registry) Timer(name string) *Timer {
	return get(r, r.timers, name, func() *Timer { return &Timer{newMeter(r.now), newHistogram(r.now)} })
}

// Gauge makes value be read whenever the metrics are; a later one of the same
// name replaces it.
func (r *Registry) Gauge(name string, value func() float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gauges[name] = value
}

// ServeHTTP serves the metrics as JSON.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text, err := json.Marshal(r.View())
	if err != nil {
		http.Error(w, "encode metrics: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // a caller who left is no error of ours
}

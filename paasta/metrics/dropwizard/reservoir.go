package dropwizard

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	reservoirSize = 1028
	decay         = 0.015 // per second
	rescaleEvery  = time.Hour
)

// A Histogram keeps a sample of values that favours the last five minutes:
// forward-decaying priority sampling (Cormode et al., 2009), 1028 values,
// α 0.015.
type Histogram struct {
	now func() time.Time

	mu       sync.Mutex
	count    float64
	landmark time.Time
	rescaled time.Time
	sample   samples // min-heap by priority
}

type sample struct{ priority, value float64 }

// samples implements heap.Interface.
type samples []sample

func (s samples) Len() int           { return len(s) }
func (s samples) Less(i, j int) bool { return s[i].priority < s[j].priority }
func (s samples) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *samples) Push(x any)        { *s = append(*s, x.(sample)) }
func (s *samples) Pop() any          { panic("only the least is replaced") }

func newHistogram(now func() time.Time) *Histogram {
	t := now()
	return &Histogram{now: now, landmark: t, rescaled: t}
}

// Update adds a value, unless that is not a number.
func (h *Histogram) Update(value float64) {
	if !finite(value) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if now.Sub(h.rescaled) >= rescaleEvery {
		h.rescale(now)
	}
	h.count++
	weight := math.Exp(decay * now.Sub(h.landmark).Seconds())
	s := sample{weight / (1 - rand.Float64()), value} // 1-u is in (0, 1]
	switch {
	case len(h.sample) < reservoirSize:
		heap.Push(&h.sample, s)
	case s.priority > h.sample[0].priority:
		h.sample[0] = s
		heap.Fix(&h.sample, 0)
	}
}

// rescale moves the landmark to now before weights overflow. Samples whose
// priority vanishes are dropped; the original let them collapse into one.
func (h *Histogram) rescale(now time.Time) {
	factor := math.Exp(-decay * now.Sub(h.landmark).Seconds())
	h.landmark, h.rescaled = now, now
	kept := h.sample[:0]
	for _, s := range h.sample {
		if s.priority *= factor; s.priority > 0 {
			kept = append(kept, s)
		}
	}
	h.sample = kept
	heap.Init(&h.sample) // scaled by one factor it still is one, but for what was dropped
}

// A Summary describes the sample, as it is in JSON; Count counts every update ever
// made.
type Summary struct {
	Count  float64 `json:"count"`
	Max    float64 `json:"max"`
	Mean   float64 `json:"mean"`
	Min    float64 `json:"min"`
	P50    float64 `json:"p50"`
	P75    float64 `json:"p75"`
	P95    float64 `json:"p95"`
	P98    float64 `json:"p98"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p999"`
	StdDev float64 `json:"stddev"`
}

// Summary returns the statistics as of now.
func (h *Histogram) Summary() Summary {
	h.mu.Lock()
	values := make([]float64, len(h.sample))
	for i, s := range h.sample {
		values[i] = s.value
	}
	count := h.count
	h.mu.Unlock()

	slices.Sort(values)
	s := Summary{Count: count}
	if len(values) == 0 {
		return s
	}
	s.Min, s.Max = values[0], values[len(values)-1]
	var sum float64
	for _, v := range values {
		sum += v
	}
	s.Mean = sum / float64(len(values))
	if n := len(values); n > 1 {
		var squares float64
		for _, v := range values {
			squares += (v - s.Mean) * (v - s.Mean)
		}
		s.StdDev = math.Sqrt(squares / float64(n-1))
	}
	s.P50, s.P75, s.P95 = quantile(values, .5), quantile(values, .75), quantile(values, .95)
	s.P98, s.P99, s.P999 = quantile(values, .98), quantile(values, .99), quantile(values, .999)
	return s
}

// quantile interpolates between the neighbours of position q·(n+1) in sorted
// values.
func quantile(values []float64, q float64) float64 {
	n := len(values)
	pos := q * float64(n+1)
	switch {
	case n == 0:
		return 0
	case pos < 1:
		return values[0]
	case pos >= float64(n):
		return values[n-1]
	}
	lower := int(pos)
	return values[lower-1] + (pos-float64(lower))*(values[lower]-values[lower-1])
}

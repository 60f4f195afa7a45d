package dropwizard

import (
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
	heap     []sample // min-heap by priority
}

type sample struct{ priority, value float64 }

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
	case len(h.heap) < reservoirSize:
		h.heap = append(h.heap, s)
		h.up(len(h.heap) - 1)
	case s.priority > h.heap[0].priority:
		h.heap[0] = s
		h.down(0)
	}
}

// rescale moves the landmark to now before weights overflow. Samples whose
// priority vanishes are dropped; the original let them collapse into one.
func (h *Histogram) rescale(now time.Time) {
	factor := math.Exp(-decay * now.Sub(h.landmark).Seconds())
	h.landmark, h.rescaled = now, now
	kept := h.heap[:0]
	for _, s := range h.heap {
		if s.priority *= factor; s.priority > 0 {
			kept = append(kept, s)
		}
	}
	h.heap = kept // scaled by one factor, still a heap; dropping may break that
	for i := len(h.heap)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *Histogram) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h.heap[parent].priority <= h.heap[i].priority {
			return
		}
		h.heap[parent], h.heap[i] = h.heap[i], h.heap[parent]
		i = parent
	}
}

func (h *Histogram) down(i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(h.heap) && h.heap[child].priority < h.heap[least].priority {
				least = child
			}
		}
		if least == i {
			return
		}
		h.heap[least], h.heap[i] = h.heap[i], h.heap[least]
		i = least
	}
}

// A Summary describes the sample; Count counts every update ever made.
type Summary struct {
	Count, Max, Mean, Min, StdDev float64
	P50, P75, P95, P98, P99, P999 float64
}

// Summary returns the statistics as of now.
func (h *Histogram) Summary() Summary {
	h.mu.Lock()
	values := make([]float64, len(h.heap))
	for i, s := range h.heap {
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

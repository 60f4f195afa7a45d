package paasta

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
)

// A Histogram counts durations in microseconds, in buckets that are the same
// everywhere and always, so that those of two hosts, or of two minutes, add up.
// Each power of two is cut into 16 buckets of the same width: what it says is
// never more than one sixteenth off, and exact below 32 µs. The zero value is
// empty. It is not safe for concurrent use.
type Histogram struct {
	Count, Sum uint64 // observations, and their sum in µs
	Min, Max   uint64 // in µs; 0 when empty

	first  int // index of counts[0]
	counts []uint32
}

const (
	histogramSub  = 16                                      // buckets a power of two
	histogramBits = 4                                       // its logarithm
	histogramMax  = 1<<36 - 1                               // 19 hours; what is longer counts as this
	histogramSize = (36 - histogramBits + 1) * histogramSub // of all buckets
)

// bucketOf returns the bucket of a duration in µs.
func bucketOf(us uint64) int {
	if us < histogramSub {
		return int(us)
	}
	us = min(us, histogramMax)
	shift := bits.Len64(us) - 1 - histogramBits
	return shift*histogramSub + int(us>>shift)
}

// bucketStart returns the least duration in µs of a bucket.
func bucketStart(i int) uint64 {
	if i < histogramSub {
		return uint64(i)
	}
	shift := i/histogramSub - 1
	return uint64(histogramSub+i%histogramSub) << shift
}

// Observe counts one duration in µs.
func (h *Histogram) Observe(us uint64) {
	if h.Count == 0 || us < h.Min {
		h.Min = us
	}
	h.Max = max(h.Max, us)
	h.Count++
	h.Sum += us
	h.at(bucketOf(us), 1)
}

// at adds n to a bucket and makes room for it first.
func (h *Histogram) at(i int, n uint32) {
	if h.counts == nil {
		h.first, h.counts = i, make([]uint32, 1, 4)
	}
	if i < h.first {
		grown := make([]uint32, len(h.counts)+h.first-i)
		copy(grown[h.first-i:], h.counts)
		h.first, h.counts = i, grown
	}
	for i-h.first >= len(h.counts) {
		h.counts = append(h.counts, 0)
	}
	// A bucket that is full stays full: Count goes on.
	if c := &h.counts[i-h.first]; n <= math.MaxUint32-*c {
		*c += n
	} else {
		*c = math.MaxUint32
	}
}

// Add adds what another has counted.
func (h *Histogram) Add(o Histogram) {
	if o.Count == 0 {
		return
	}
	if h.Count == 0 || o.Min < h.Min {
		h.Min = o.Min
	}
	h.Max = max(h.Max, o.Max)
	h.Count += o.Count
	h.Sum += o.Sum
	// The ends first, so that the middle needs no more room.
	h.at(o.first, 0)
	h.at(o.first+len(o.counts)-1, 0)
	for i, n := range o.counts {
		if n > 0 {
			h.at(o.first+i, n)
		}
	}
}

// Minus returns what h had without o, which was added to it. What is left lies
// between Min and Max, which need not be among it.
func (h Histogram) Minus(o Histogram) Histogram {
	h = h.Clone()
	h.Count -= o.Count
	h.Sum -= o.Sum
	for i, n := range o.counts {
		// A bucket that was full holds less than was added.
		c := &h.counts[o.first+i-h.first]
		*c -= min(n, *c)
	}
	return h
}

// Clone returns a copy that shares nothing.
func (h Histogram) Clone() Histogram {
	h.counts = append([]uint32(nil), h.counts...)
	return h
}

// Mean is in µs, 0 when empty.
func (h Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return float64(h.Sum) / float64(h.Count)
}

// Quantile returns the duration in µs below which the share q, 0 to 1, of the
// observations lies; 0 when empty.
func (h Histogram) Quantile(q float64) float64 { return h.rank(q * float64(h.inBuckets())) }

// QuantileBounds returns between which durations in µs the quantile q of what
// was sampled lies, as sure as z says (1.96: 95 %, 2.58: 99 %, 3.29: 99.9 %). It
// assumes nothing about how durations are distributed. ok is false when there
// are too few observations to bound it on both sides.
func (h Histogram) QuantileBounds(q, z float64) (low, high float64, ok bool) {
	n := float64(h.inBuckets())
	spread := z * math.Sqrt(n*q*(1-q))
	from, to := q*n-spread, q*n+spread+1
	if from < 1 || to > n {
		return 0, 0, false
	}
	return h.rank(from), h.rank(to), true
}

// rank returns the duration of the observation number r, counted from 1. Within
// a bucket observations are taken to be spread evenly.
func (h Histogram) rank(r float64) float64 {
	if h.Count == 0 {
		return 0
	}
	below := 0.0
	for i, n := range h.counts {
		if n > 0 && below+float64(n) >= r {
			start, end := float64(bucketStart(h.first+i)), float64(bucketStart(h.first+i+1))
			at := start + (end-start)*max(r-below, 0)/float64(n)
			return min(max(at, float64(h.Min)), float64(h.Max))
		}
		below += float64(n)
	}
	return float64(h.Max)
}

// inBuckets is Count, unless a bucket was full.
func (h Histogram) inBuckets() uint64 {
	var n uint64
	for _, c := range h.counts {
		n += uint64(c)
	}
	return n
}

// StdDev is the standard deviation in µs, as far as buckets tell.
func (h Histogram) StdDev() float64 {
	n := float64(h.inBuckets())
	if n < 2 {
		return 0
	}
	mean, sum := h.Mean(), 0.0
	for i, c := range h.counts {
		middle := float64(bucketStart(h.first+i)+bucketStart(h.first+i+1)-1) / 2
		sum += float64(c) * (middle - mean) * (middle - mean)
	}
	return math.Sqrt(sum / (n - 1))
}

// AtMost counts the observations of at most us µs, to the next bucket.
func (h Histogram) AtMost(us uint64) uint64 {
	var n uint64
	for i, c := range h.counts {
		if bucketStart(h.first+i) > us {
			break
		}
		n += uint64(c)
	}
	return n
}

// histogramJSON is a histogram as it travels: buckets are [index, count].
type histogramJSON struct {
	Count   uint64      `json:"count"`
	Sum     uint64      `json:"sum_us"`
	Min     uint64      `json:"min_us"`
	Max     uint64      `json:"max_us"`
	Buckets [][2]uint32 `json:"buckets"`
}

// MarshalJSON writes the buckets that have something in them.
func (h Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{Count: h.Count, Sum: h.Sum, Min: h.Min, Max: h.Max, Buckets: [][2]uint32{}}
	for i, n := range h.counts {
		if n > 0 {
			j.Buckets = append(j.Buckets, [2]uint32{uint32(h.first + i), n})
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*h = Histogram{Count: j.Count, Sum: j.Sum, Min: j.Min, Max: j.Max}
	for _, b := range j.Buckets {
		if b[0] >= histogramSize {
			return fmt.Errorf("histogram: bucket %d: there are %d", b[0], histogramSize)
		}
		h.at(int(b[0]), b[1])
	}
	if in := h.inBuckets(); in > h.Count || in == 0 && h.Count > 0 {
		return fmt.Errorf("histogram: count is %d, but the buckets hold %d", h.Count, in)
	}
	return nil
}

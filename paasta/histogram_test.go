package paasta

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestBucketsFollowOneAnother(t *testing.T) {
	t.Parallel()
	for i := range histogramSize {
		start, next := bucketStart(i), bucketStart(i+1)
		if next <= start || bucketOf(start) != i || bucketOf(next-1) != i {
			t.Fatalf("bucket %d holds %d to %d, but those are in %d and %d", i, start, next-1, bucketOf(start), bucketOf(next-1))
		}
		if width := next - start; start >= 32 && float64(width) > float64(start)/16 {
			t.Errorf("bucket %d of %d is %d wide", i, start, width)
		}
	}
	if got := bucketOf(math.MaxUint64); got != histogramSize-1 {
		t.Errorf("the longest is in bucket %d, want %d", got, histogramSize-1)
	}
}

// Whatever is observed, wherever, and in however many parts: it adds up, what it
// says of quantiles is close, and it survives a journey.
func TestHistogramsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Uint64Range(0, 1<<34), 1, 200).Draw(t, "durations")
		hosts := make([]Histogram, 3)
		var whole, merged Histogram
		for i, us := range all {
			whole.Observe(us)
			hosts[i%3].Observe(us)
		}
		for _, h := range hosts {
			text, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			var back Histogram
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			merged.Add(back)
		}
		a, _ := json.Marshal(whole)
		b, _ := json.Marshal(merged)
		if string(a) != string(b) {
			t.Errorf("merged:\n%s\nwhole:\n%s", b, a)
		}
		for _, h := range hosts {
			merged = merged.Minus(h)
		}
		if merged.Count != 0 || merged.Sum != 0 || merged.inBuckets() != 0 {
			t.Errorf("nothing is left of %+v", merged)
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99} {
			exact := float64(all[max(int(math.Ceil(q*float64(len(all))))-1, 0)])
			if got := whole.Quantile(q); math.Abs(got-exact) > exact/16+1 {
				t.Errorf("quantile %v = %v, want %v", q, got, exact)
			}
			if low, high, ok := whole.QuantileBounds(q, 2.58); ok && (low > whole.Quantile(q) || high < whole.Quantile(q)) {
				t.Errorf("quantile %v = %v is not between %v and %v", q, whole.Quantile(q), low, high)
			}
		}
		if got := whole.AtMost(all[len(all)-1]); got != uint64(len(all)) {
			t.Errorf("%d at most the longest, want %d", got, len(all))
		}
	})
}

func TestQuantileBoundsNeedEnough(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n  int
		q  float64
		ok bool
	}{
		{0, 0.5, false}, {5, 0.5, false}, {30, 0.5, true}, {100, 0.99, false}, {2000, 0.99, true},
	} {
		var h Histogram
		for i := range c.n {
			h.Observe(uint64(1000 + i))
		}
		if low, high, ok := h.QuantileBounds(c.q, 2.58); ok != c.ok {
			t.Errorf("%d observations, quantile %v: bounds %v, %v, %v", c.n, c.q, low, high, ok)
		}
	}
}

func TestHistogramRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"count": 1, "buckets": [[4000, 1]]}`, `{"count": 1, "buckets": [[4, 2]]}`, `{"count": 1}`, `[]`, `{"buckets": [[-1, 1]]}`} {
		if err := json.Unmarshal([]byte(text), new(Histogram)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	for i := range b.N {
		h.Observe(uint64(i) & 0xffff)
	}
}

package traffic

import (
	"fmt"
	"math"
	"slices"

	"github.com/gopaasta/paasta/paasta"
)

// A Verdict is what a comparison came to.
type Verdict string

// Verdicts.
const (
	Same    Verdict = "same"    // any difference that would matter can be ruled out
	Worse   Verdict = "worse"   // slower, or more errors
	Better  Verdict = "better"  // faster, or fewer errors
	Unknown Verdict = "unknown" // not enough data to tell
)

const (
	// falseAlarms is how often a whole report may see a difference where there is none.
	falseAlarms = 0.01
	// minRatio is the least ratio of two latencies that is called a difference, and
	// minDifference the least difference, in ms.
	minRatio, minDifference = 1.1, 0.5
	// sameRatio is how far two latencies that are called the same may be apart at
	// most, and sameErrors the same for shares of errors.
	sameRatio, sameErrors = 1.25, 0.01
)

// A Change compares one number of two sets of requests.
type Change struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	// Low and High are what After minus Before lies between, as sure as the report
	// is; both 0 when nothing can be said.
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Verdict Verdict `json:"verdict"`
	// Needs is how many requests each side should have about, where there are too
	// few.
	Needs uint64 `json:"needs,omitempty"`
}

// zScore returns z such that one of tests comparisons goes wrong in falseAlarms of
// all cases (Bonferroni).
func zScore(tests int) float64 {
	return math.Sqrt2 * math.Erfinv(1-falseAlarms/float64(max(tests, 1)))
}

// compareQuantile compares a quantile of two samples. Nothing is assumed about
// how latencies are distributed: the bounds are order statistics.
func compareQuantile(before, after paasta.Histogram, q, z float64) Change {
	c := Change{Before: ms(before.Quantile(q)), After: ms(after.Quantile(q)), Verdict: Unknown}
	bl, bh, ok1 := before.QuantileBounds(q, z)
	al, ah, ok2 := after.QuantileBounds(q, z)
	if !ok1 || !ok2 {
		c.Needs = requestsFor(q, z)
		return c
	}
	bl, bh, al, ah = ms(bl), ms(bh), ms(al), ms(ah)
	c.Low, c.High = round(al-bh), round(ah-bl)
	apart := func(fast, slow float64) bool { return slow > fast*minRatio && slow-fast > minDifference }
	switch {
	case al > bh && apart(c.Before, c.After):
		c.Verdict = Worse
	case ah < bl && apart(c.After, c.Before):
		c.Verdict = Better
	case within(bl, ah) && within(al, bh):
		c.Verdict = Same
	default:
		c.Needs = 4 * max(before.Count, after.Count, requestsFor(q, z)) // bounds half as far apart
	}
	return c
}

// within tells whether two latencies are as good as the same.
func within(fast, slow float64) bool { return slow <= fast*sameRatio || slow-fast <= minDifference }

// requestsFor is how many requests bound a quantile on both sides.
func requestsFor(q, z float64) uint64 {
	tail := min(q, 1-q)
	for n := 10.0; ; n *= 1.1 {
		if n*tail-z*math.Sqrt(n*q*(1-q)) >= 2 {
			return uint64(n)
		}
	}
}

// compareErrors compares two shares of errors by Newcombe's interval of their
// difference, which also holds for few errors or none.
func compareErrors(errorsBefore, before, errorsAfter, after uint64, z float64) Change {
	c := Change{Verdict: Unknown}
	if before == 0 || after == 0 {
		c.Needs = minForErrors
		return c
	}
	p1, l1, u1 := wilson(errorsBefore, before, z)
	p2, l2, u2 := wilson(errorsAfter, after, z)
	c.Before, c.After = share(p1), share(p2)
	d := p2 - p1
	low, high := d-math.Hypot(p2-l2, u1-p1), d+math.Hypot(u2-p2, p1-l1)
	c.Low, c.High = share(low), share(high)
	switch {
	case low > 0 && d > sameErrors/10:
		c.Verdict = Worse
	case high < 0 && -d > sameErrors/10:
		c.Verdict = Better
	case high <= sameErrors && low >= -sameErrors:
		c.Verdict = Same
	default:
		c.Needs = max(minForErrors, 4*min(before, after))
	}
	return c
}

// minForErrors is about how many requests without an error rule out a change
// by sameErrors.
const minForErrors = 1000

func share(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// wilson returns a share and the interval that it lies in.
func wilson(hits, of uint64, z float64) (p, low, high float64) {
	n := float64(of)
	p = float64(min(hits, of)) / n
	center := p + z*z/(2*n)
	spread := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	scale := 1 + z*z/n
	return p, max((center-spread)/scale, 0), min((center+spread)/scale, 1)
}

// worst is what several comparisons come to together: the most telling of them.
// Unknown is left when none tells anything.
func worst(all ...Verdict) Verdict {
	for _, v := range []Verdict{Worse, Better, Same} {
		if slices.Contains(all, v) {
			return v
		}
	}
	return Unknown
}

func milliseconds(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f ms", x)
	case x >= 1:
		return fmt.Sprintf("%.1f ms", x)
	}
	return fmt.Sprintf("%.2f ms", x)
}

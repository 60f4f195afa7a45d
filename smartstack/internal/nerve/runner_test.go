package nerve

import (
	"testing"
	"time"
)

// Services of one interval share few moments, and each keeps its interval.
func TestChecksKeepToTheBeat(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{50 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second, 10 * time.Second, time.Hour} {
		begin := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
		moments := map[time.Time]bool{}
		for i := range 1000 {
			now := begin.Add(interval * time.Duration(i) / 1000)
			pause := untilNext(now, interval, interval)
			if off := (pause - interval).Abs(); off > interval/8 {
				t.Errorf("every %v: a pause of %v", interval, pause)
			}
			next := now.Add(pause)
			moments[next.Round(0)] = true
			for _, took := range []time.Duration{0, time.Microsecond, min(interval, beat) / 10} {
				if again := next.Add(took).Add(untilNext(next.Add(took), interval, interval)); interval > beat && again.Sub(next) != interval.Round(min(beat, interval/4)) {
					t.Errorf("every %v, a check of %v: %v from one to the next", interval, took, again.Sub(next))
				}
			}
		}
		if most := int(interval/min(beat, interval/4)) + 2; len(moments) > most {
			t.Errorf("every %v: %d moments, want at most %d", interval, len(moments), most)
		}
		if pause := untilNext(begin, 0, interval); pause < 0 {
			t.Errorf("every %v: no pause at all became %v", interval, pause)
		}
	}
}

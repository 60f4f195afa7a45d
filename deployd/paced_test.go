package deployd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The first word is acted on at once, and a flood of them ten times a second; the
// last one is never lost.
func TestPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wake := make(chan struct{}, 1)
		calls := make(chan time.Duration, 100)
		began := time.Now()
		go paced(ctx, wake, 100*time.Millisecond, func() { calls <- time.Since(began) })
		for range 250 { // 2.5 ms apart: 625 ms
			select {
			case wake <- struct{}{}:
			default:
			}
			time.Sleep(2500 * time.Microsecond)
		}
		time.Sleep(time.Second)
		if n := len(calls); n != 8 {
			t.Errorf("%d calls for 625 ms of news and the last word, want 8", n)
		}
		if first := <-calls; first != 0 {
			t.Errorf("the first word was acted on after %s", first)
		}
	})
}

package environment

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Two at a time, the most urgent first, and whoever was told to stop takes
// nobody's turn away.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q turns
		done := make(chan string, 5)
		began := time.Now()
		for _, urgency := range []int{1, 5, 3, 4, 2} {
			go func() {
				give, err := q.take(t.Context(), time.Duration(urgency))
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second + time.Duration(urgency*urgency)*time.Millisecond) // so that the order is certain
				give()
				give()
				done <- fmt.Sprint(urgency, " after ", time.Since(began).Truncate(time.Second))
			}()
		}
		gone, stop := context.WithCancel(t.Context())
		go func() {
			if _, err := q.take(gone, 9); !errors.Is(err, context.Canceled) {
				t.Errorf("told to stop: %v", err)
			}
		}()
		synctest.Wait()
		stop()
		time.Sleep(time.Hour)
		if len(done) > 0 {
			t.Fatalf("before it was open: %s", <-done)
		}
		began = time.Now()
		q.open(2)
		for _, want := range []string{"4 after 1s", "5 after 1s", "3 after 2s", "2 after 2s", "1 after 3s"} {
			if got := <-done; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		synctest.Wait()
		if q.free != 2 || len(q.line) != 0 {
			t.Errorf("in the end %d are free, and %d wait", q.free, len(q.line))
		}
	})
}

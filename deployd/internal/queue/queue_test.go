package queue

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func TestQueueHandsOutEachKeyOnce(t *testing.T) {
	t.Parallel()
	q := New[string]()
	q.Add("a", at(0), at(10), Low)
	q.Add("a", at(1), at(5), Normal)
	q.Add("b", at(2), at(5), High)

	if _, ok, next := q.Pop(at(4)); ok || !next.Equal(at(5)) {
		t.Errorf("Pop before anything is due: %v, next %v; want nothing, and 5 s", ok, next)
	}
	for n, want := range []string{"b", "a"} {
		item, ok, _ := q.Pop(at(5))
		if !ok || item.Key != want {
			t.Fatalf("Pop %d = %v %v, want %s", n, item, ok, want)
		}
	}
	if item, ok, next := q.Pop(at(100)); ok || !next.IsZero() {
		t.Errorf("Pop of an empty queue = %v %v %v", item, ok, next)
	}
}

func TestQueueHoldsBackWhatIsWorkedOn(t *testing.T) {
	t.Parallel()
	q := New[string]()
	q.Add("a", at(0), at(0), Normal)
	q.Pop(at(0))
	q.Add("a", at(1), at(1), Normal)
	if _, ok, _ := q.Pop(at(2)); ok {
		t.Error("a was handed out while it was worked on")
	}
	q.Done("a", false, time.Second, time.Minute)
	if _, ok, _ := q.Pop(at(2)); !ok {
		t.Error("what was asked for meanwhile was lost")
	}
}

func TestQueueForgetsFailures(t *testing.T) {
	t.Parallel()
	q := New[string]()
	for n, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if got := q.Done("a", true, time.Second, 10*time.Second); got != want*time.Second {
			t.Errorf("failure %d: pause %v, want %v", n+1, got, want*time.Second)
		}
	}
	q.Done("a", false, time.Second, 10*time.Second)
	if got := q.Done("a", true, time.Second, 10*time.Second); got != time.Second {
		t.Errorf("after a success: pause %v, want 1s", got)
	}
}

// However much urgent work there always is, what was asked for once is done, and
// urgent work goes first until then.
func TestQueueStarvesNothing(t *testing.T) {
	t.Parallel()
	q := New[string]()
	q.Add("resync", at(0), at(0), Low)
	for now := range 100 {
		q.Add("deploy", at(now), at(now), High)
		item, ok, _ := q.Pop(at(now))
		if !ok {
			t.Fatalf("at %d s: nothing", now)
		}
		q.Done(item.Key, false, time.Second, time.Minute)
		if item.Key != "resync" {
			continue
		}
		if now < 15 {
			t.Errorf("the resync went first after %d s", now)
		}
		return
	}
	t.Error("the resync never came")
}

// Whatever happens, what was asked for is handed out once it is due, and never
// twice at a time.
func TestQueueLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := New[int]()
		now, asked, busy := 0, map[int]bool{}, map[int]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				key := rapid.IntRange(0, 4).Draw(t, "key")
				q.Add(key, at(now), at(now+rapid.IntRange(0, 3).Draw(t, "in")), Priority(rapid.IntRange(0, 2).Draw(t, "priority")))
				asked[key] = true
			},
			"pop": func(t *rapid.T) {
				item, ok, _ := q.Pop(at(now))
				if !ok {
					return
				}
				if busy[item.Key] || !asked[item.Key] || item.Due.After(at(now)) {
					t.Fatalf("%+v was handed out: busy %v, asked for %v, at %v", item, busy[item.Key], asked[item.Key], at(now))
				}
				busy[item.Key] = true
				delete(asked, item.Key)
			},
			"done": func(t *rapid.T) {
				key := rapid.IntRange(0, 4).Draw(t, "key")
				if busy[key] {
					q.Done(key, rapid.Bool().Draw(t, "failed"), time.Second, time.Minute)
					delete(busy, key)
				}
			},
			"wait": func(*rapid.T) { now++ },
			"": func(t *rapid.T) {
				if waiting, _, _ := q.Len(at(now)); waiting != len(asked) {
					t.Fatalf("%d keys wait, %d were asked for", waiting, len(asked))
				}
			},
		})
	})
}

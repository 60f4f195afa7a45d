// Package queue says which instance is looked at next. It is pure: it has no
// clock and starts nothing; package worker owns one and passes the time in.
package queue

import (
	"cmp"
	"slices"
	"time"
)

// Priority orders what is due at the same time.
type Priority int

// The priorities.
const (
	Low    Priority = iota // resync, refresh of stale apps
	Normal                 // something may have changed
	High                   // somebody waits: a new deploy
)

// headStart is what a higher priority is worth: what is due goes before what is
// of a lower one and has been due for less than that longer, so that no load of
// urgent work keeps the rest from ever being looked at.
const headStart = 10 * time.Second

// An Item is one key that waits.
type Item[K comparable] struct {
	Key      K
	Due      time.Time
	Priority Priority
	Since    time.Time // first asked for and not looked at since
}

// A Queue holds each key at most once. What is being worked on is not handed
// out again before Done; if it is asked for meanwhile, it comes again after
// that, so nothing is lost and nothing is done twice at a time.
type Queue[K comparable] struct {
	waiting  map[K]Item[K]
	busy     map[K]bool
	failures map[K]int
}

// New returns an empty queue.
func New[K comparable]() *Queue[K] {
	return &Queue[K]{waiting: map[K]Item[K]{}, busy: map[K]bool{}, failures: map[K]int{}}
}

// Add asks for key at due. A key that waits already keeps the earlier time and
// the higher priority of the two.
func (q *Queue[K]) Add(key K, now, due time.Time, p Priority) {
	item, ok := q.waiting[key]
	if !ok {
		q.waiting[key] = Item[K]{Key: key, Due: due, Priority: p, Since: now}
		return
	}
	if due.Before(item.Due) {
		item.Due = due
	}
	item.Priority = max(item.Priority, p)
	q.waiting[key] = item
}

// Pop takes the due key with the highest priority, unless another has been due
// for much longer, of equals the one that has waited longest, and marks it as
// being worked on. With none due, next is when
// one will be; the zero time if nothing waits.
func (q *Queue[K]) Pop(now time.Time) (item Item[K], ok bool, next time.Time) {
	for key, i := range q.waiting {
		if q.busy[key] {
			continue
		}
		if i.Due.After(now) {
			if next.IsZero() || i.Due.Before(next) {
				next = i.Due
			}
			continue
		}
		if !ok || sooner(i, item) {
			item, ok = i, true
		}
	}
	if ok {
		delete(q.waiting, item.Key)
		q.busy[item.Key] = true
	}
	return item, ok, next
}

// rank is when the item would be due if its priority were Low.
func (i Item[K]) rank() time.Time { return i.Due.Add(-time.Duration(i.Priority) * headStart) }

func sooner[K comparable](a, b Item[K]) bool {
	return cmp.Or(a.rank().Compare(b.rank()), cmp.Compare(b.Priority, a.Priority), a.Since.Compare(b.Since)) < 0
}

// Done says that a key is not worked on any more. A failure counts and returns
// the pause before the next try, which doubles up to max; a success forgets all
// failures before it.
func (q *Queue[K]) Done(key K, failed bool, first, most time.Duration) (pause time.Duration) {
	delete(q.busy, key)
	if !failed {
		delete(q.failures, key)
		return 0
	}
	n := q.failures[key]
	q.failures[key] = n + 1
	for pause = first; n > 0 && pause < most; n-- {
		pause *= 2
	}
	return min(pause, most)
}

// Due returns when key will be handed out next, if it waits.
func (q *Queue[K]) Due(key K) (time.Time, bool) {
	item, ok := q.waiting[key]
	return item.Due, ok
}

// Len returns how many keys wait and how many of them are due.
func (q *Queue[K]) Len(now time.Time) (waiting, due, busy int) {
	for _, i := range q.waiting {
		if !i.Due.After(now) {
			due++
		}
	}
	return len(q.waiting), due, len(q.busy)
}

// Waiting lists what waits, in the order in which it would be handed out.
func (q *Queue[K]) Waiting() []Item[K] {
	items := make([]Item[K], 0, len(q.waiting))
	for _, i := range q.waiting {
		items = append(items, i)
	}
	slices.SortFunc(items, func(a, b Item[K]) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(b.Priority, a.Priority), a.Since.Compare(b.Since))
	})
	return items
}

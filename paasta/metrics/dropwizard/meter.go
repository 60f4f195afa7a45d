package dropwizard

import (
	"math"
	"sync"
	"time"
)

const tick = 5 * time.Second

// An ewma is an exponentially weighted moving rate, in events per second.
type ewma struct {
	alpha float64
	rate  float64
	begun bool
}

func newEWMA(minutes float64) ewma {
	return ewma{alpha: 1 - math.Exp(-tick.Seconds()/60/minutes)}
}

func (e *ewma) tick(events float64) {
	now := events / tick.Seconds()
	if !e.begun {
		e.rate, e.begun = now, true
		return
	}
	e.rate += e.alpha * (now - e.rate)
}

// A Meter counts events and knows their rate over 1, 5 and 15 minutes.
type Meter struct {
	now func() time.Time

	mu          sync.Mutex
	count       float64
	uncounted   float64 // since the last tick
	start, last time.Time
	m1, m5, m15 ewma
}

// NewMeter returns a meter that belongs to no registry; nil is the real time.
func NewMeter(now func() time.Time) *Meter {
	if now == nil {
		now = time.Now
	}
	return newMeter(now)
}

func newMeter(now func() time.Time) *Meter {
	t := now()
	return &Meter{now: now, start: t, last: t, m1: newEWMA(1), m5: newEWMA(5), m15: newEWMA(15)}
}

// Mark counts n events, unless that is not a number.
func (m *Meter) Mark(n float64) {
	if !finite(n) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catchUp()
	m.count += n
	m.uncounted += n
}

// catchUp replays the ticks that are due. Ticks are lazy: nothing runs while
// nobody marks or reads. After four hours of silence even the 15-minute rate is
// as good as zero, so no more than that is replayed.
func (m *Meter) catchUp() {
	due := int(m.now().Sub(m.last) / tick)
	m.last = m.last.Add(time.Duration(due) * tick)
	const enough = int(4 * time.Hour / tick)
	for range min(due, enough) {
		m.m1.tick(m.uncounted)
		m.m5.tick(m.uncounted)
		m.m15.tick(m.uncounted)
		m.uncounted = 0
	}
}

// Rates are events per second.
type Rates struct {
	Count, M1, M5, M15, Mean float64
}

// Rates returns the count and the rates as of now.
func (m *Meter) Rates() Rates {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catchUp()
	r := Rates{Count: m.count, M1: m.m1.rate, M5: m.m5.rate, M15: m.m15.rate}
	if age := m.now().Sub(m.start).Seconds(); age > 0 {
		r.Mean = m.count / age
	}
	return r
}

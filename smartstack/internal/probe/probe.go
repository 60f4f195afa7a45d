// Package probe looks at a server the way HAProxy would, once: HAProxy calls a
// server up before it ever checked it, so an agent looks itself before it adds
// one.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// Once checks the server at addr and returns nil if it passes.
func Once(ctx context.Context, addr netip.AddrPort, c haproxy.Check) error {
	if c.Port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), uint16(c.Port))
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if c.Mode == haproxy.ModeTCP {
		conn, err := Dial(ctx, addr.String())
		if err != nil {
			return err // says the address
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Mode+"://"+addr.String()+c.Path, nil)
	if err != nil {
		return fmt.Errorf("check %s: %w", c.Path, err)
	}
	for _, h := range c.AllHeaders() {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		} else {
			req.Header.Set(h.Name, h.Value)
		}
	}
	err = Request(ctx, req, func(resp *http.Response) error {
		if resp.StatusCode < 200 || resp.StatusCode > 399 {
			return errors.New(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
		}
		return Expect(resp.Body, c.BodyExpect)
	})
	if err != nil {
		return fmt.Errorf("GET %s: %w", req.URL, err)
	}
	return nil
}

// Pauses between two probes of a server that does not pass.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

// A Pool runs probes, a bounded number at a time. What waits for its turn or for
// its next try costs no goroutine: a host that starts has thousands to probe.
type Pool struct {
	Size int // at a time; required

	mu         sync.Mutex
	queues     [2][]func() // by Order
	running    int
	background int // of them, those of Background
	workers    sync.WaitGroup
}

// An Order is whose turn comes first.
type Order int

const (
	// Urgent is for a server that takes no traffic before its probe has passed:
	// somebody waits for it.
	Urgent Order = iota
	// Background is for those that are in HAProxy already. There may be thousands of
	// them, each may take as long as its timeout, and none of them is waited for:
	// only a part of the pool is theirs.
	Background
)

// backgroundShare is the part of a pool that Background may have.
const backgroundShare = 4

// Wait returns once no probe runs any more. Call it when the contexts of all
// probes have ended.
func (p *Pool) Wait() { p.workers.Wait() }

func (p *Pool) add(o Order, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues[o] = append(p.queues[o], f)
	if p.running == p.Size {
		return
	}
	if o, f, ok := p.next(); ok {
		p.running++
		p.workers.Go(func() { p.work(o, f) })
	}
}

// next takes whose turn it is out of the queues. p.mu is held.
func (p *Pool) next() (o Order, f func(), ok bool) {
	for o, queue := range p.queues {
		if len(queue) == 0 || Order(o) == Background && p.background == max(p.Size/backgroundShare, 1) {
			continue
		}
		f, queue[0] = queue[0], nil
		p.queues[o] = queue[1:]
		if len(queue) == 1 {
			p.queues[o] = nil // else it keeps the room for all that there ever were
		}
		if Order(o) == Background {
			p.background++
		}
		return Order(o), f, true
	}
	return 0, nil, false
}

func (p *Pool) work(o Order, f func()) {
	for ok := true; ok; {
		f()
		p.mu.Lock()
		if o == Background {
			p.background--
		}
		if o, f, ok = p.next(); !ok {
			p.running--
		}
		p.mu.Unlock()
	}
}

// UntilPass probes until the server passes, and then calls passed, or until ctx
// ends. told hears of each failure.
func (p *Pool) UntilPass(ctx context.Context, o Order, addr netip.AddrPort, c haproxy.Check, told func(error), passed func()) {
	p.try(ctx, o, addr, c, firstPause, func(err error, pause time.Duration) (next time.Duration, again bool) {
		if err == nil {
			passed()
			return 0, false
		}
		told(err)
		return min(2*pause, longestPause), true
	})
}

// UntilDown probes until the server fails twice in a row, and then calls down,
// or until ctx ends. It is in HAProxy, and so in the Background.
func (p *Pool) UntilDown(ctx context.Context, addr netip.AddrPort, c haproxy.Check, down func()) {
	const soon = 200 * time.Millisecond
	failed := 0
	p.try(ctx, Background, addr, c, soon, func(err error, pause time.Duration) (next time.Duration, again bool) {
		if err == nil {
			failed = 0
			return min(2*pause, longestPause), true
		}
		if failed++; failed == 2 {
			down()
			return 0, false
		}
		return soon, true
	})
}

// try probes once, asks after what to do, and does so again after pause until
// it has enough.
func (p *Pool) try(ctx context.Context, o Order, addr netip.AddrPort, c haproxy.Check, pause time.Duration, after func(error, time.Duration) (time.Duration, bool)) {
	p.add(o, func() {
		if ctx.Err() != nil {
			return
		}
		err := Once(ctx, addr, c)
		if ctx.Err() != nil {
			return
		}
		next, again := after(err, pause)
		if !again {
			return
		}
		time.AfterFunc(pause, func() { // seconds at most, so nobody stops it
			if ctx.Err() == nil {
				p.try(ctx, o, addr, c, next, after)
			}
		})
	})
}

package nerve

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/gopaasta/paasta/paasta/registry"
)

// A Keeper keeps an ephemeral entry in the registry until ctx ends; see
// registry.ZooKeeper.Ephemeral.
type Keeper interface {
	Ephemeral(ctx context.Context, registration string, e registry.Entry, changed func(error)) error
}

// A publication is what the registry should hold for one service.
type publication struct {
	registrations []string
	entry         registry.Entry
}

// A publisher holds the entries of this host in the registry. One entry that
// replaces another is there before the other goes, so a change of weight never
// takes a service out.
type publisher struct {
	keeper Keeper
	log    *slog.Logger

	mu    sync.Mutex
	kept  map[string][]*keep        // by service
	alive map[string]map[*keep]bool // by service: kept, or still to go
	wg    sync.WaitGroup
}

// A keep is one entry under one registration.
type keep struct {
	registration string
	cancel       context.CancelFunc
	there        chan struct{} // closed once the entry was in the registry
	once         sync.Once
	retired      bool // it is to go
}

func newPublisher(k Keeper, log *slog.Logger) *publisher {
	return &publisher{keeper: k, log: log, kept: map[string][]*keep{}, alive: map[string]map[*keep]bool{}}
}

// publish makes want the only entries of service; nil takes them out. It returns
// at once.
func (p *publisher) publish(ctx context.Context, service string, want *publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.kept[service]
	delete(p.kept, service)
	var fresh []*keep
	if want != nil {
		for _, registration := range want.registrations {
			fresh = append(fresh, p.keep(ctx, service, registration, want.entry))
		}
		p.kept[service] = fresh
	}
	for _, k := range old {
		k.retired = true
		successor := slices.IndexFunc(fresh, func(f *keep) bool { return f.registration == k.registration })
		if successor < 0 {
			k.cancel()
			continue
		}
		p.wg.Go(func() {
			select {
			case <-fresh[successor].there:
			case <-ctx.Done():
			}
			k.cancel()
		})
	}
}

// pending tells whether the registry does not hold exactly what was published
// last: an entry is still to come, or to go.
func (p *publisher) pending(service string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.alive[service] {
		select {
		case <-k.there:
			if k.retired {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// ended notes that an entry has gone.
func (p *publisher) ended(service string, k *keep) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.alive[service], k)
	if len(p.alive[service]) == 0 {
		delete(p.alive, service)
	}
}

// keep is called with p.mu held.
func (p *publisher) keep(ctx context.Context, service, registration string, e registry.Entry) *keep {
	// The agent's stop must not take the entries out one by one as their contexts
	// end: withdraw does that, within a bound.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k := &keep{registration: registration, cancel: cancel, there: make(chan struct{})}
	if p.alive[service] == nil {
		p.alive[service] = map[*keep]bool{}
	}
	p.alive[service][k] = true
	log := p.log.With("registration", registration, "address", address(e))
	p.wg.Go(func() {
		defer p.ended(service, k)
		err := p.keeper.Ephemeral(ctx, registration, e, func(err error) {
			if err != nil {
				log.Warn("register a local service failed, trying again", "err", err)
				return
			}
			log.Info("local service registered", "weight", e.Weight)
			k.once.Do(func() { close(k.there) })
		})
		if err != nil {
			log.Error("register a local service failed for good", "err", err)
		}
		k.once.Do(func() { close(k.there) }) // nobody waits for what will not come
	})
	return k
}

// withdraw takes every entry out and waits for that, at most until ctx ends.
func (p *publisher) withdraw(ctx context.Context) error {
	p.mu.Lock()
	for _, all := range p.kept {
		for _, k := range all {
			k.cancel()
		}
	}
	p.kept = map[string][]*keep{}
	p.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

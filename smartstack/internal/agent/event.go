package agent

import (
	"net/netip"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// An event is one of the types below: what others have learned, told to Run.
type event any

type (
	treeRead       struct{ tree *soaconfig.Tree } // soa-configs
	treeUnreadable struct{ err error }

	// A registryRead is an answer of the registry for a registration, or why there is
	// none.
	registryRead struct {
		registration string
		set          registry.Set
		hosts        []string // of it, that are names
		err          error
		at           time.Time
	}

	// A probeResult is the result of a probe of one address.
	probeResult struct {
		registration string
		addr         netip.AddrPort
		kind         probeKind
		err          error // nil: untilUp has passed, or untilDown has failed for good
	}

	// A serversDown names servers that HAProxy's own checks call down.
	serversDown struct {
		registration string
		servers      map[string]bool
	}

	callersListed struct{ names map[netip.Addr]string }
	hostsMoved    struct{} // the resolver has another address for some name
	fileWritten   struct{} // or could not be: status has changed
)

// A mailbox holds the events that Run has not handled yet. To put one never blocks.
type mailbox struct {
	kick chan struct{}

	mu      sync.Mutex
	events  []event
	delayed bool // a kick is due
}

func newMailbox() *mailbox { return &mailbox{kick: make(chan struct{}, 1)} }

// put adds an event and wakes Run.
func (m *mailbox) put(e event) {
	m.mu.Lock()
	m.events = append(m.events, e)
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// delay is how long events that nobody waits for are collected. A thousand
// services that start are built again a few times then, and not for each server.
const delay = 250 * time.Millisecond

// putDelayed adds an event and wakes Run before long.
func (m *mailbox) putDelayed(e event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
	if m.delayed {
		return
	}
	m.delayed = true
	time.AfterFunc(delay, func() {
		m.mu.Lock()
		m.delayed = false
		m.mu.Unlock()
		m.wake()
	})
}

// take returns the events in their order, and empties the mailbox.
func (m *mailbox) take() []event {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := m.events
	m.events = nil
	return events
}

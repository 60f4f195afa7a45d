// Package agents knows the hosts that run paasta smartstack: which are alive,
// what their HAProxys have applied, which backends they have, and how many
// connections a task on them still has. Nothing here blocks: what is not known
// yet is asked for in the background, and Changed is called once it is.
package agents

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/zk"
)

// Options say what a View watches. All but HTTP are required.
type Options struct {
	Conn *zk.Conn
	// Linger is how long an agent that went away still counts: its HAProxy goes
	// on routing without it, so it may come back to apply what it has missed.
	Linger time.Duration
	// Settle is how long after the start the absence of agents proves nothing:
	// their nodes go with their sessions, and come back.
	Settle  time.Duration
	Log     *slog.Logger
	HTTP    *http.Client // default: none kept longer than its polls
	Changed func()       // something may have changed; must not block
}

// A View is what is known of the agents. Run keeps it fresh.
type View struct {
	o Options

	mu      sync.Mutex
	started time.Time
	alive   map[string]paasta.AgentNode // by znode name
	gone    map[string]departed
	polls   *polls
}

type departed struct {
	node paasta.AgentNode
	at   time.Time
}

// New returns a View that knows nothing yet.
func New(o Options) *View {
	if o.HTTP == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 32
		o.HTTP = &http.Client{Transport: t}
	}
	return &View{o: o, started: time.Now(), alive: map[string]paasta.AgentNode{}, gone: map[string]departed{}, polls: newPolls(o.HTTP, o.Changed)}
}

// Run watches the agents until ctx ends, and then returns nil.
func (v *View) Run(ctx context.Context) error {
	v.mu.Lock()
	v.started = time.Now()
	v.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { v.polls.run(ctx) })

	watching := map[string]context.CancelFunc{}
	wake := make(chan struct{}, 1)
	v.o.Conn.Sessions(ctx, wake)
	for {
		names, _, err := v.o.Conn.WatchChildren(ctx, paasta.AgentsPath, wake)
		pause := time.Minute
		switch {
		case errors.Is(err, zk.ErrNoNode):
			names = nil
		case err != nil:
			pause = time.Second // what was known stands
		}
		if err == nil || errors.Is(err, zk.ErrNoNode) {
			for name, stop := range watching {
				if !slices.Contains(names, name) {
					stop()
					delete(watching, name)
					v.forget(name)
				}
			}
			for _, name := range names {
				if watching[name] == nil {
					ctx, stop := context.WithCancel(ctx)
					watching[name] = stop
					wg.Go(func() { v.follow(ctx, name) })
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-time.After(pause):
			v.expire()
		}
	}
}

// follow keeps one agent's node fresh until ctx ends.
func (v *View) follow(ctx context.Context, name string) {
	wake := make(chan struct{}, 1)
	for {
		data, _, err := v.o.Conn.WatchData(ctx, paasta.AgentsPath+"/"+name, wake)
		pause := time.Minute
		var node paasta.AgentNode
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = time.Second // gone: Run will say so
		default:
			if err := json.Unmarshal(data, &node); err != nil {
				v.o.Log.Warn("agent's znode is not readable, it is left out", "path", paasta.AgentsPath+"/"+name, "err", err)
				break
			}
			if node.Host == "" {
				node.Host = name
			}
			if v.keep(ctx, name, node) {
				v.o.Changed()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(pause):
		}
	}
}

// keep notes what an agent's node says, and tells whether that is news. Once ctx
// has ended the node is gone, and what was read of it before is not kept.
func (v *View) keep(ctx context.Context, name string, node paasta.AgentNode) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	before, known := v.alive[name]
	v.alive[name] = node
	delete(v.gone, name)
	return !known || !reflect.DeepEqual(before, node)
}

// forget notes that an agent's node is gone. Whoever followed it has been
// stopped.
func (v *View) forget(name string) {
	v.mu.Lock()
	if node, ok := v.alive[name]; ok {
		v.gone[name] = departed{node, time.Now()}
		delete(v.alive, name)
	}
	v.mu.Unlock()
	v.o.Changed()
}

func (v *View) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, d := range v.gone {
		if time.Since(d.at) > v.o.Linger {
			delete(v.gone, name)
		}
	}
}

// Live returns the agents that are announced, and those that went lately and
// still count, by host.
func (v *View) Live() (live, lingering []paasta.AgentNode) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, node := range v.alive {
		live = append(live, node)
	}
	for _, d := range v.gone {
		if time.Since(d.at) <= v.o.Linger {
			lingering = append(lingering, d.node)
		}
	}
	byHost := func(a, b paasta.AgentNode) int { return cmp.Compare(a.Host, b.Host) }
	slices.SortFunc(live, byHost)
	slices.SortFunc(lingering, byHost)
	return live, lingering
}

// Settled tells whether the absence of agents means that there are none; if
// not, when it will.
func (v *View) Settled() (bool, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	left := v.o.Settle - time.Since(v.started)
	return left <= 0 && v.o.Conn.Connected(), max(left, 100*time.Millisecond)
}

// Pick returns up to n of the agents, those that are preferred first; of the
// others the same ones for the same key as long as they live, and others for
// other keys.
func Pick(live []paasta.AgentNode, preferred func(paasta.AgentNode) bool, key string, n int) []paasta.AgentNode {
	if len(live) <= n {
		return live
	}
	rank := func(a paasta.AgentNode) (int, uint64) {
		h := fnv.New64a()
		h.Write([]byte(a.Host + "\x00" + key))
		if preferred(a) {
			return 0, h.Sum64()
		}
		return 1, h.Sum64()
	}
	picked := slices.Clone(live)
	slices.SortFunc(picked, func(a, b paasta.AgentNode) int {
		first, hash := rank(a)
		second, other := rank(b)
		return cmp.Or(cmp.Compare(first, second), cmp.Compare(hash, other))
	})
	return picked[:n]
}

// Of returns the agent whose host has an address.
func Of(live []paasta.AgentNode, address string) (paasta.AgentNode, bool) {
	for _, a := range live {
		if a.Host == address || slices.Contains(a.Addrs, address) {
			return a, true
		}
	}
	return paasta.AgentNode{}, false
}

// Backends returns what an agent's HAProxy has under a registration; an error
// says why that is not known (yet).
func (v *View) Backends(a paasta.AgentNode, registration string) (paasta.AgentBackends, error) {
	return answer[paasta.AgentBackends](v.polls, a.Status+"/v1/backends/"+registration, backendsPoll)
}

// Connections returns how many connections an agent's host has to one of its
// tasks; an error says why that is not known (yet).
func (v *View) Connections(a paasta.AgentNode, host string, port int) (int, error) {
	url := fmt.Sprintf("%s/v1/connections?host=%s&port=%d", a.Status, host, port)
	c, err := answer[paasta.AgentConnections](v.polls, url, connectionsPoll)
	return c.Connections, err
}

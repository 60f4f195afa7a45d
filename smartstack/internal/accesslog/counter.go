package accesslog

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

// Bounds on what a Counter holds, whatever comes. Beyond them requests count as
// those of Other.
const (
	maxServices = 5000
	maxSeries   = 4000 // of all services
	maxOfOne    = 1000 // series of one service
	maxCallers  = 200  // of one service
	maxCalls    = 2000 // pairs of endpoint and caller of one service
	maxVersions = 4    // of one service that are compared
)

const (
	slot  = time.Minute // what windows are made of
	slots = 16          // how many are kept: windows are up to 15 minutes
	// seriesLife is how long a series is kept without a request, and goneLife the
	// same when its server is gone: both longer than any window.
	seriesLife = 24 * time.Hour
	goneLife   = 20 * time.Minute
	// callLife is how long a Counter remembers that somebody called.
	callLife = 7 * 24 * time.Hour
	// refreshEvery is how often Lookup is asked about a service that gets requests.
	refreshEvery = 5 * time.Second
	// halfLife bounds how far back what is compared between versions reaches: to
	// between once and twice as long.
	halfLife = time.Hour
)

// LongestWindow is the longest that Requests looks back.
const LongestWindow = (slots - 1) * slot

// A Server is what is known about a server of HAProxy besides its name.
type Server struct {
	Version  string // git sha
	Instance string // of PaaSTA, e.g. main
	TaskID   string
}

// A Known is what is known about a service besides what the log says.
type Known struct {
	Servers   map[string]Server // by HAProxy's name
	Templates []string          // of paths
}

// A Counter adds up lines. Its methods may be called at once.
type Counter struct {
	// Lookup tells about a service; ok is false when it is not one of ours, and
	// its lines are not counted.
	Lookup func(registration string) (k Known, ok bool)
	// Now is the time; nil: time.Now.
	Now func() time.Time

	lines, foreign, refused atomic.Int64

	mu       sync.RWMutex
	services map[string]*service
	series   atomic.Int64 // of all services
}

// A service is one registration as callers on this host see it.
type service struct {
	registration string

	mu        sync.Mutex
	refreshed time.Time
	begun     time.Time
	last      time.Time
	templates []string
	endpoints *endpoints
	servers   map[string]*server
	versions  map[string]*version
	callers   map[string]*caller
	series    map[key]*series
	calls     map[call]*called
}

type server struct {
	Server
	name  string
	known bool // Server is what Lookup said
	gone  bool
	last  time.Time
}

type caller struct {
	name string
	last time.Time
}

// A key names a series.
type key struct {
	endpoint *endpoint
	server   *server
	caller   *caller
	class    string
}

// series counts requests that have a key in common: all of them, and those of
// each of the last minutes in which there were any.
type series struct {
	total paasta.Histogram
	cells []cell
	last  time.Time
}

type cell struct {
	slot    int64
	latency paasta.Histogram
}

// A call says who calls what.
type call struct {
	endpoint *endpoint
	caller   *caller
}

type called struct {
	count, errors uint64
	first, last   time.Time
}

// version is what is compared when a new one comes: the requests of a version
// by endpoint, of the last hours in which it was asked for anything.
type version struct {
	name    string
	since   time.Time
	last    time.Time
	gone    bool // no server has it any more; when it comes back it begins anew
	turned  time.Time
	now     map[*endpoint]*paasta.VersionEndpoint
	earlier map[*endpoint]*paasta.VersionEndpoint
}

// getOrAdd returns the value of a key, added when it is not there; nil when it is
// not, and limit others are.
func getOrAdd[K comparable, V any](m map[K]*V, k K, limit int) *V {
	v := m[k]
	if v == nil && len(m) < limit {
		v = new(V)
		m[k] = v
	}
	return v
}

// Take counts one datagram.
func (c *Counter) Take(text []byte) {
	var l Line
	if !Parse(text, &l) {
		c.foreign.Add(1)
		return
	}
	c.Count(&l, c.now())
}

func (c *Counter) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Count counts one line.
func (c *Counter) Count(l *Line, now time.Time) {
	s := c.service(l.Frontend, now)
	if s == nil {
		c.refused.Add(1)
		return
	}
	c.lines.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.refreshed) > refreshEvery {
		s.refresh(c.Lookup, now)
	}
	k := key{s.endpointOf(l, now), s.server(c, l, now), s.caller(l.Caller, now), l.class()}
	bad := paasta.IsErrorClass(k.class)
	s.add(c, k, l.Micros, now)
	s.last = now
	s.called(k, bad, now)
	if k.server.Version != "" {
		s.version(k.server.Version, now).add(k.endpoint, l.Micros, bad, now)
	}
	if k.endpoint.meter == nil {
		k.endpoint.meter = dropwizard.NewMeter(c.now)
	}
	k.endpoint.meter.Mark(1)
}

// service finds or makes the service of a frontend; nil when there is no room
// for it, or it is none of ours.
func (c *Counter) service(name []byte, now time.Time) *service {
	c.mu.RLock()
	s := c.services[string(name)]
	c.mu.RUnlock()
	if s != nil {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.services[string(name)]; s != nil {
		return s
	}
	if _, ok := c.Lookup(string(name)); !ok || len(c.services) >= maxServices || !utf8.Valid(name) {
		return nil
	}
	s = &service{
		registration: string(name), begun: now, endpoints: newEndpoints(), servers: map[string]*server{}, versions: map[string]*version{},
		callers: map[string]*caller{}, series: map[key]*series{}, calls: map[call]*called{},
	}
	if c.services == nil {
		c.services = map[string]*service{}
	}
	c.services[s.registration] = s
	return s
}

// refresh compares a service with what Lookup knows about it.
func (s *service) refresh(lookup func(string) (Known, bool), now time.Time) {
	s.refreshed = now
	k, ok := lookup(s.registration)
	if !ok {
		return
	}
	if !slices.Equal(s.templates, k.Templates) {
		s.templates = k.Templates
		s.endpoints.setTemplates(k.Templates)
	}
	alive := map[string]bool{}
	for name, known := range k.Servers {
		alive[known.Version] = true
		old := s.servers[name]
		switch {
		case old != nil && !old.known:
			old.Server, old.known = known, true // its first requests were faster than the news of it
		case old == nil || old.Server != known:
			s.servers[name] = &server{Server: known, name: name, known: true, last: now} // the old one keeps its series
			if old != nil {
				old.gone = true
			}
		}
	}
	for name, x := range s.servers {
		_, there := k.Servers[name]
		x.gone = !there
	}
	for name, v := range s.versions {
		if v.gone && alive[name] && now.Sub(v.last) > 2*refreshEvery {
			delete(s.versions, name) // it is back, and begins anew
			continue
		}
		v.gone = !alive[name]
	}
}

// TCP is the endpoint of services that are not HTTP.
const TCP = "tcp"

func (s *service) endpointOf(l *Line, now time.Time) *endpoint {
	if !l.HTTP {
		return s.endpoints.named(TCP, 0, false)
	}
	return s.endpoints.of(l.Method, l.Path, l.Status, now)
}

// NoServer is the server of what HAProxy answered itself.
const NoServer = "none"

// server finds the server of a line. One that HAProxy had before we knew of it
// has no version.
func (s *service) server(c *Counter, l *Line, now time.Time) *server {
	name, registered := l.Server, false
	switch {
	case name[0] == '<': // <NOSRV>: HAProxy answered itself; <STATS> and <LUA> as well
		name = []byte(NoServer)
	case !paasta.BelongsTo(l.Backend, s.registration): // proxied_through
		name = append([]byte("via "), l.Backend...)
	default:
		registered = true
	}
	x := s.servers[string(name)]
	if registered && (x == nil || !x.known) && now.Sub(s.refreshed) > refreshEvery/50 { // it has just come
		s.refresh(c.Lookup, now)
		x = s.servers[string(name)]
	}
	if x == nil {
		return s.namedServer(strings.ToValidUTF8(string(name), "?"), now)
	}
	x.last = now
	return x
}

func (s *service) namedServer(name string, now time.Time) *server {
	x := getOrAdd(s.servers, name, math.MaxInt)
	x.name, x.last = name, now
	return x
}

// UnknownCaller is who calls when nothing is known about the address.
const UnknownCaller = "unknown"

func (s *service) caller(name []byte, now time.Time) *caller {
	if len(name) == 0 || string(name) == "0" || string(name) == "-" {
		name = []byte(UnknownCaller)
	}
	x := s.callers[string(name)]
	if x == nil {
		text := strings.ToValidUTF8(string(name), "?")
		if len(s.callers) >= maxCallers {
			text = Other
		}
		x = getOrAdd(s.callers, text, math.MaxInt)
		x.name = text
	}
	x.last = now
	return x
}

// add counts in the series of a key, or in a wider one when there is no room.
func (s *service) add(c *Counter, k key, us uint64, now time.Time) {
	x := s.series[k]
	if x == nil {
		if len(s.series) >= maxOfOne || c.series.Load() >= maxSeries {
			k = key{s.endpoints.other, s.namedServer(Other, now), s.caller([]byte(Other), now), k.class} // one a class
		}
		if x = s.series[k]; x == nil {
			x = &series{}
			s.series[k] = x
			c.series.Add(1)
		}
	}
	x.last = now
	x.total.Observe(us)
	x.advance(slotOf(now))
	x.cells[len(x.cells)-1].latency.Observe(us)
}

// slotOf returns the number of the slot that a time is in.
func slotOf(t time.Time) int64 { return t.UnixNano() / int64(slot) }

// advance makes the last cell that of slot n, and drops those that are too old. A
// clock that went back by moments goes on in the last slot; one that went back by
// more had been wrong, and so are the cells.
func (x *series) advance(n int64) {
	over := 0
	if len(x.cells) > 0 {
		switch last := x.cells[len(x.cells)-1].slot; {
		case last == n || last == n+1:
			return
		case last > n:
			over = len(x.cells)
		}
	}
	for over < len(x.cells) && x.cells[over].slot <= n-slots {
		over++
	}
	x.cells = append(x.cells[:copy(x.cells, x.cells[over:])], cell{slot: n})
}

// called remembers who calls what, also beyond the windows.
func (s *service) called(k key, bad bool, now time.Time) {
	x := getOrAdd(s.calls, call{k.endpoint, k.caller}, maxCalls)
	if x == nil {
		return
	}
	if x.count == 0 {
		x.first = now
	}
	x.count++
	x.last = now
	if bad {
		x.errors++
	}
}

// version finds or adds a version; the one without requests for longest makes room.
func (s *service) version(name string, now time.Time) *version {
	v := s.versions[name]
	if v != nil {
		return v
	}
	if len(s.versions) >= maxVersions {
		oldest := slices.MinFunc(slices.Collect(maps.Values(s.versions)), func(a, b *version) int { return a.last.Compare(b.last) })
		delete(s.versions, oldest.name)
	}
	v = &version{name: name, since: now, turned: now, now: map[*endpoint]*paasta.VersionEndpoint{}}
	s.versions[name] = v
	return v
}

func (v *version) add(e *endpoint, us uint64, bad bool, now time.Time) {
	if now.Sub(v.turned) > halfLife {
		v.earlier, v.now, v.turned = v.now, map[*endpoint]*paasta.VersionEndpoint{}, now
	}
	v.last = now
	x := getOrAdd(v.now, e, math.MaxInt)
	x.Endpoint = e.name
	if bad {
		x.Errors++
	}
	x.Latency.Observe(us)
}

// Sweep forgets what has not been used for long. Call it every minute or so.
func (c *Counter) Sweep() {
	now := c.now()
	for _, s := range c.all() {
		if _, ok := c.Lookup(s.registration); !ok {
			c.drop(s)
			continue
		}
		s.mu.Lock()
		s.refresh(c.Lookup, now)
		before := len(s.series)
		maps.DeleteFunc(s.series, func(k key, x *series) bool {
			unused := now.Sub(x.last)
			return unused > seriesLife || unused > goneLife && k.server.gone
		})
		c.series.Add(int64(len(s.series) - before))
		maps.DeleteFunc(s.servers, func(_ string, x *server) bool { return x.gone && now.Sub(x.last) > goneLife })
		maps.DeleteFunc(s.calls, func(_ call, x *called) bool { return now.Sub(x.last) > callLife })
		maps.DeleteFunc(s.callers, func(_ string, x *caller) bool { return now.Sub(x.last) > callLife })
		s.endpoints.forget(now)
		s.mu.Unlock()
	}
}

// drop forgets a service that is none of ours any more.
func (c *Counter) drop(s *service) {
	c.mu.Lock()
	delete(c.services, s.registration)
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.series.Add(-int64(len(s.series)))
	s.series = map[key]*series{} // a line that is being counted may still add to it
}

// all returns the services in no order.
func (c *Counter) all() []*service {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Collect(maps.Values(c.services))
}

package discover

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// Settings are what of a namespace's section comes from the host.
type Settings struct {
	Location  Location
	Bind      []netip.Addr  // where frontends listen
	Every     time.Duration // HAProxy's checks
	Fast      time.Duration
	CallerMap string
	LogHTTP   string
	LogTCP    string
}

// A Namespace is a namespace of soa-configs as this host serves it: everything
// but the servers.
type Namespace struct {
	Registration string
	Port         int
	Service      haproxy.Service // with backends and no servers
	Metrics      Metrics
	Source       *soaconfig.Namespace // that it was made of
	structure    [sha256.Size]byte
	views        []view
	location     Location
}

// Metrics is what a namespace says about its metrics.
type Metrics struct {
	URI       string   // where its tasks show theirs; "" for nowhere
	Templates []string // of paths
}

// MetricsOf returns what a namespace says about its metrics.
func MetricsOf(ns soaconfig.Namespace) Metrics { return Metrics{ns.MetricsURI, ns.EndpointTemplates} }

// Unproxied returns a namespace without a proxy_port: it is discovered for other
// tools only.
func Unproxied(ns soaconfig.Namespace, set Settings) Namespace {
	return Namespace{Registration: ns.Service + "." + ns.Name, Metrics: MetricsOf(ns), Source: &ns, location: set.Location}
}

// NewNamespace makes a namespace with a proxy_port into a section. The error
// says all that keeps it from becoming one.
func NewNamespace(ns soaconfig.Namespace, set Settings) (Namespace, error) {
	name := ns.Service + "." + ns.Name
	if ns.ProxyPort == nil {
		return Namespace{}, errors.New("has no proxy_port")
	}
	port := *ns.ProxyPort
	if port < 1 || port > 65535 {
		return Namespace{}, fmt.Errorf("proxy_port %d is not between 1 and 65535", port)
	}
	s := haproxy.Service{
		Name:           name,
		Mode:           haproxy.ModeHTTP,
		Balance:        cmp.Or(ns.Balance, "leastconn"),
		KeepAlive:      ns.Keepalive,
		Retries:        ns.Retries,
		TimeoutConnect: cmp.Or(ns.TimeoutConnect, 200*time.Millisecond),
		Headers:        headers(ns.ExtraHeaders),
		ProxiedThrough: ns.ProxiedThrough,
		IsProxy:        ns.IsProxy,
		Endpoints:      endpoints(ns.EndpointTimeouts),
		Check:          check(ns, set),
		Fault:          fault(ns, set.Location),
	}
	s.TimeoutClient = cmp.Or(ns.TimeoutClient, ns.TimeoutServer, time.Second)
	s.TimeoutServer = cmp.Or(ns.TimeoutServer, ns.TimeoutClient, time.Second)
	s.TimeoutTunnel = ns.TimeoutTunnel
	if ns.Mode == haproxy.ModeTCP || ns.Mode == haproxy.ModeHTTPS { // https goes through as it is
		s.Mode = haproxy.ModeTCP
		s.LogFormat = set.LogTCP
	} else {
		s.LogFormat = set.LogHTTP
		s.CallerMap = set.CallerMap
	}
	if ns.Cache != nil {
		s.Cache = &haproxy.Cache{MaxAge: ns.Cache.MaxAge, MaxObjectKB: ns.Cache.MaxObjectKB, WithCookies: ns.Cache.WithCookies}
	}
	for _, a := range set.Bind {
		s.Bind = append(s.Bind, netip.AddrPortFrom(a, uint16(port)))
	}
	n := Namespace{Registration: name, Port: port, Metrics: MetricsOf(ns), Source: &ns, location: set.Location}
	n.views = set.Location.views(name, ns.Discover, ns.Advertise)
	for _, v := range n.views {
		s.Backends = append(s.Backends, haproxy.Backend{Name: v.backend})
	}
	n.Service = s
	if err := s.Validate(); err != nil {
		return n, err
	}
	return n.Through(s.ProxiedThrough), nil
}

// Proxied tells whether the namespace has a proxy_port.
func (n Namespace) Proxied() bool { return n.Port != 0 }

// Through returns the namespace with requests that go through a service first; ""
// for straight.
func (n Namespace) Through(service string) Namespace {
	n.Service.ProxiedThrough = service
	n.structure = haproxy.NewSection(n.Service).Structure
	return n
}

// Structure is what HAProxy accepts or refuses of a namespace: all but the servers,
// and without what it refers to, which is never what is wrong.
func (n Namespace) Structure() [sha256.Size]byte { return n.Through("").structure }

// Runs tells whether a section is this namespace's, whatever its servers are.
func (n Namespace) Runs(s *haproxy.Section) bool { return s != nil && s.Structure == n.structure }

func check(ns soaconfig.Namespace, set Settings) haproxy.Check {
	c := haproxy.Check{
		Mode:       cmp.Or(ns.HealthcheckMode, ns.Mode, haproxy.ModeHTTP),
		Path:       cmp.Or(ns.HealthcheckURI, "/status"),
		Timeout:    cmp.Or(ns.HealthcheckTimeout, time.Second),
		BodyExpect: ns.HealthcheckBodyExpect,
		Headers:    headers(ns.HealthcheckHeaders),
		Every:      cmp.Or(set.Every, 10*time.Minute),
		Fast:       cmp.Or(set.Fast, 30*time.Second),
	}
	if ns.HealthcheckPort != nil {
		c.Port = *ns.HealthcheckPort
	}
	if c.Mode != haproxy.ModeHTTP && c.Mode != haproxy.ModeHTTPS {
		c.Mode = haproxy.ModeTCP // mysql, smtp, …: what HAProxy and we can see is that it listens
	}
	return c
}

func headers(m map[string]string) []haproxy.Header {
	hs := make([]haproxy.Header, 0, len(m))
	for name, value := range m {
		hs = append(hs, haproxy.Header{Name: name, Value: value})
	}
	slices.SortFunc(hs, func(a, b haproxy.Header) int { return strings.Compare(a.Name, b.Name) })
	return hs
}

// endpoints returns the timeouts with the longest path first.
func endpoints(m map[string]time.Duration) []haproxy.Endpoint {
	es := make([]haproxy.Endpoint, 0, len(m))
	for path, timeout := range m {
		es = append(es, haproxy.Endpoint{Path: path, Timeout: timeout})
	}
	slices.SortFunc(es, func(a, b haproxy.Endpoint) int {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), strings.Compare(a.Path, b.Path))
	})
	return es
}

// fault returns what chaos and fixed_delay have for callers on this host.
func fault(ns soaconfig.Namespace, here Location) haproxy.Fault {
	f := haproxy.Fault{Percent: 100}
	for _, kind := range here.Types {
		c, ok := ns.Chaos[kind][here.Here[kind]]
		if !ok {
			continue
		}
		switch c.Fail {
		case "drop":
			f.Drop = true
		case "error_503":
			f.Error = 503
		}
		f.Delay = max(f.Delay, c.Delay)
	}
	if f.Delay > 0 {
		return f
	}
	for _, kind := range here.Types { // the narrowest wins
		if d, ok := ns.FixedDelay[kind+":"+here.Here[kind]]; ok {
			f.Delay, f.Percent = d.Duration, d.Percent
		}
	}
	return f
}

// With returns the section with servers for the members. id gives a server its
// number in a backend.
func (n Namespace) With(members Members, id func(backend, server string) int) *haproxy.Section {
	s := n.Service
	s.Backends = make([]haproxy.Backend, len(n.views))
	serving := members.Serving()
	for i, v := range n.views {
		servers := make([]haproxy.Server, 0, len(serving))
		for _, m := range serving {
			if n.location.sees(v, m.Entry.Node.Labels) {
				servers = append(servers, haproxy.Server{
					Name: m.Entry.Name, Addr: m.Entry.Addr, ID: id(v.backend, m.Entry.Name), Weight: m.Entry.Weight, Options: m.Entry.Options, Down: m.Unverified && m.Failing,
				})
			}
		}
		haproxy.SortServers(servers)
		s.Backends[i] = haproxy.Backend{Name: v.backend, Servers: servers}
	}
	return &haproxy.Section{Service: s, Structure: n.structure}
}

// Bare returns the section without servers.
func (n Namespace) Bare() *haproxy.Section { return n.With(Members{}, nil) }

// Imported returns the entry that a server of an adopted HAProxy was made from,
// as far as the server tells.
func (n Namespace) Imported(backend string, s haproxy.Server) Entry {
	name := strings.TrimSuffix(s.Name, "_"+s.Addr.Addr().String()+":"+fmt.Sprint(s.Addr.Port()))
	e := Entry{Addr: s.Addr, Name: s.Name, Weight: s.Weight, Node: new(registry.Node)}
	e.Node.Entry = registry.Entry{Host: s.Addr.Addr().String(), Port: int(s.Addr.Port()), Name: name, Weight: s.Weight, Labels: map[string]string{}}
	for _, v := range n.views {
		if v.backend == backend && v.label != "" {
			e.Node.Labels[v.label] = ""
		}
	}
	return e
}

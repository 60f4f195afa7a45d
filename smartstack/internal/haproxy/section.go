package haproxy

import (
	"bufio"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
)

// A Section is a service, and what of it only a reload changes. Its text is made
// when a file is written: that of a thousand services is megabytes. It is not
// changed once it is made.
type Section struct {
	Service   Service
	Structure [sha256.Size]byte // hash of the text but for what is a server's own
}

// NewSection returns the section of a service.
func NewSection(s Service) *Section {
	bare := s
	bare.Backends = make([]Backend, len(s.Backends))
	for i, b := range s.Backends {
		bare.Backends[i].Name = b.Name
	}
	section := &Section{Service: s}
	withText(bare, Version{}, func(text []byte) {
		// No server line can be changed either, but for what is the server's own.
		section.Structure = sha256.Sum256(append(text, serverOptions(s, Options{})...))
	})
	return section
}

// With returns the section with a service that differs in nothing but servers.
func (s *Section) With(service Service) *Section {
	return &Section{Service: service, Structure: s.Structure}
}

// Serves tells whether a section has a server that takes traffic; a nil one has none.
func (s *Section) Serves(server string) bool {
	return s != nil && slices.ContainsFunc(s.Service.Backends, func(b Backend) bool {
		return slices.ContainsFunc(b.Servers, func(s Server) bool { return s.Name == server && !s.Leaving })
	})
}

// Equal tells whether two sections of the same structure have the same servers,
// in whatever order.
func (s *Section) Equal(other *Section) bool {
	return s.Structure == other.Structure && slices.EqualFunc(s.Service.Backends, other.Service.Backends, func(a, b Backend) bool {
		return a.Name == b.Name && slices.Equal(byName(a.Servers), byName(b.Servers))
	})
}

// writeTo writes the text, which ends with a newline.
func (s *Section) writeTo(w *bufio.Writer, v Version) {
	withText(s.Service, v, func(text []byte) { w.Write(text) })
}

// writers are kept for the next service.
var writers = sync.Pool{New: func() any { return new(writer) }}

// withText lets use have the text of a service, until it returns.
func withText(s Service, v Version, use func([]byte)) {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	w.text, w.version = w.text[:0], v
	w.service(s)
	use(w.text)
}

// byName returns servers in the order of their names.
func byName(servers []Server) []Server {
	if slices.IsSortedFunc(servers, compareNames) {
		return servers
	}
	servers = slices.Clone(servers)
	SortServers(servers)
	return servers
}

// SortServers puts servers into the order in which they are written, which makes
// comparing them cheap.
func SortServers(servers []Server) { slices.SortFunc(servers, compareNames) }

func compareNames(a, b Server) int { return strings.Compare(a.Name, b.Name) }

// Restarted returns the section as a new process has it, which was started from its
// text: without servers that leave, and with all of them up unless their health was
// carried over.
func (s *Section) Restarted(health bool) *Section {
	service, changed := s.Service, false
	service.Backends = slices.Clone(service.Backends)
	for i, b := range service.Backends {
		servers := slices.DeleteFunc(slices.Clone(b.Servers), func(s Server) bool { return s.Leaving })
		changed = changed || len(servers) != len(b.Servers)
		for j := range servers {
			if servers[j].Down && !health {
				servers[j].Down, changed = false, true
			}
		}
		service.Backends[i].Servers = servers
	}
	if !changed {
		return s
	}
	return s.With(service)
}

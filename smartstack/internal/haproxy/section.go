package haproxy

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
)

// A Section is a service as text. It is not changed once it is made.
type Section struct {
	Service   Service
	Text      []byte            // all of it
	Structure [sha256.Size]byte // hash of all but the server lines: what only a reload changes
}

// writers are kept for the next service: there are thousands.
var writers = sync.Pool{New: func() any { return new(writer) }}

// RenderService returns the section of one service, which ends with a newline.
func RenderService(s Service) *Section {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	w.text, w.servers = w.text[:0], w.servers[:0]
	w.service(s)
	return &Section{Service: s, Text: bytes.Clone(w.text), Structure: w.structure()}
}

// With returns the section with a service of the same text: one that differs in
// servers that leave.
func (s *Section) With(service Service) *Section {
	return &Section{Service: service, Text: s.Text, Structure: s.Structure}
}

// Stayed returns s without the servers that leave, and how many those are.
func (s Service) Stayed() (stayed Service, leaving int) {
	s.Backends = slices.Clone(s.Backends)
	for i, b := range s.Backends {
		servers := slices.DeleteFunc(slices.Clone(b.Servers), func(s Server) bool { return s.Leaving })
		leaving += len(b.Servers) - len(servers)
		s.Backends[i].Servers = servers
	}
	return s, leaving
}

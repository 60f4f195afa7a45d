package accesslog

import (
	"bytes"
	"math"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

// Other is the endpoint, the caller or the server of what there was no room for.
const Other = "other"

const (
	maxEndpoints = 60 // that one service learns; its templates come on top
	maxTemplates = 200
	maxChildren  = 20 // words below one path, before the next ones are taken for parameters
	maxSegments  = 8  // of a path; what is longer ends in {rest}
	// endpointLife is how long an endpoint that was learned is kept without being
	// asked for.
	endpointLife = 24 * time.Hour
)

// methods that metrics tell apart; the last stands for all others.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"}

func methodOf(m []byte) int {
	for i, known := range methods[:len(methods)-1] {
		if string(m) == known {
			return i
		}
	}
	return len(methods) - 1
}

// An endpoint is a method and a template of paths.
type endpoint struct {
	name    string // e.g. "GET /users/{id}"
	path    []string
	method  int
	learned bool
	last    time.Time
	meter   *dropwizard.Meter // nil before the first request
}

// endpoints names what is asked for, in a bounded number of ways. Templates of
// soa-configs come first. What they do not match is learned: a segment that
// looks like an id, or that follows where many have been seen, is a parameter.
type endpoints struct {
	templates *node
	learned   *node
	known     map[string]*endpoint // by name: one that comes back is the same
	count     int                  // of those learned
	other     *endpoint
}

// A node is what is known about the paths below a path.
type node struct {
	children map[string]*node
	any      *node // a parameter
	name     string
	ends     [len(methods)]*endpoint
	end      bool // of a template
}

func newEndpoints() *endpoints {
	return &endpoints{templates: &node{}, learned: &node{}, known: map[string]*endpoint{}, other: &endpoint{name: Other}}
}

// setTemplates replaces the templates, such as /users/{id}.
func (e *endpoints) setTemplates(all []string) {
	e.templates = &node{}
	for _, t := range all[:min(len(all), maxTemplates)] {
		n := e.templates
		for word := range strings.SplitSeq(strings.TrimPrefix(t, "/"), "/") {
			n = n.wordOrParameter(word)
		}
		n.name, n.end = t, true
	}
}

func (n *node) wordOrParameter(word string) *node {
	if strings.HasPrefix(word, "{") {
		return n.parameter(word)
	}
	return n.child(word)
}

func (n *node) child(word string) *node {
	if n.children == nil {
		n.children = map[string]*node{}
	}
	c := getOrAdd(n.children, word, math.MaxInt)
	c.name = word
	return c
}

// of returns the endpoint of a request. Only answers that make it likely that
// the path exists teach: nobody who tries out paths may fill the table.
func (e *endpoints) of(method, path []byte, status int, now time.Time) *endpoint {
	path = pathOf(path)
	if path == nil {
		return e.other
	}
	m := methodOf(method)
	if n := e.templates.match(path); n != nil {
		if n.ends[m] == nil {
			n.ends[m] = e.named(methods[m]+" "+n.name, m, false)
		}
		return n.ends[m]
	}
	var words [maxSegments + 1][]byte
	split := segments(path, &words)
	n := e.learned
	for _, word := range split {
		if n = n.follow(word); n == nil {
			break
		}
	}
	if n == nil || n.ends[m] == nil {
		if !teaches(status) || e.count >= maxEndpoints {
			return e.other
		}
		n = e.learn(split, m)
	}
	n.ends[m].last = now
	return n.ends[m]
}

func teaches(status int) bool {
	switch status {
	case 0, 400, 404, 405, 414:
		return false
	}
	return true
}

// match finds the template of a path: words before parameters.
func (n *node) match(path []byte) *node {
	word, rest, more := bytes.Cut(path, slash)
	for _, next := range [2]*node{n.children[string(word)], n.any} {
		if next == nil || next == n.any && len(word) == 0 {
			continue
		}
		if !more {
			if next.end {
				return next
			}
			continue
		}
		if found := next.match(rest); found != nil {
			return found
		}
	}
	return nil
}

// follow returns where a word leads, nil for what has not been learned.
func (n *node) follow(word []byte) *node {
	if isParameter(word) {
		return n.any
	}
	if c := n.children[string(word)]; c != nil {
		return c
	}
	if len(n.children) >= maxChildren {
		return n.any
	}
	return nil
}

// learn adds the endpoint of a path.
func (e *endpoints) learn(split [][]byte, method int) *node {
	n := e.learned
	var names []string
	for i, word := range split {
		switch {
		case i == maxSegments:
			n = n.parameter("{rest}")
		case isParameter(word), n.children[string(word)] == nil && len(n.children) >= maxChildren:
			n = n.parameter("{id}")
		default:
			n = n.child(string(word))
		}
		names = append(names, n.name)
	}
	n.ends[method] = e.named(methods[method]+" /"+strings.Join(names, "/"), method, true)
	n.ends[method].path = names
	return n
}

func (n *node) parameter(name string) *node {
	if n.any == nil {
		n.any = &node{name: name}
	}
	return n.any
}

// named returns the one endpoint of this name.
func (e *endpoints) named(name string, method int, learned bool) *endpoint {
	x := e.known[name]
	if x == nil {
		x = &endpoint{name: name, method: method, learned: learned}
		e.known[name] = x
		if learned {
			e.count++
		}
	}
	return x
}

// forget drops what was learned and is not asked for any more.
func (e *endpoints) forget(now time.Time) {
	old := e.known
	e.known, e.learned, e.count = map[string]*endpoint{}, &node{}, 0
	for name, x := range old {
		if !x.learned {
			e.known[name] = x
			continue
		}
		if now.Sub(x.last) > endpointLife {
			continue
		}
		e.known[name] = x
		e.count++
		n := e.learned
		for _, word := range x.path {
			n = n.wordOrParameter(word)
		}
		n.ends[x.method] = x
	}
}

var slash = []byte("/")

// pathOf returns a path without its first slash; nil for what is none.
func pathOf(path []byte) []byte {
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if len(path) > 0 && path[0] != '/' { // GET http://host/path
		_, rest, ok := bytes.Cut(path, []byte("://"))
		i := bytes.IndexByte(rest, '/')
		if !ok || i < 0 {
			return nil
		}
		path = rest[i:]
	}
	if len(path) == 0 {
		return nil
	}
	return path[1:]
}

// segments splits a path; what comes after the first maxSegments is one.
func segments(path []byte, words *[maxSegments + 1][]byte) [][]byte {
	for i := range maxSegments {
		word, rest, more := bytes.Cut(path, slash)
		words[i] = word
		if !more {
			return words[:i+1]
		}
		path = rest
	}
	words[maxSegments] = []byte("%") // is a parameter
	return words[:]
}

// isParameter tells words that a programmer wrote from what a program filled
// in: numbers, hashes, names with anything but letters.
func isParameter(word []byte) bool {
	digits, hex := 0, true
	for _, c := range word {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
		case c == '-':
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '~':
			hex = false
		default:
			return true
		}
	}
	n := len(word)
	switch {
	case digits == 0:
		return n > 40
	case digits == n, n > 40, hex && n >= 8:
		return true
	}
	return digits >= 3 && digits*3 >= n // not v1, s3, oauth2
}

// Package gateway is the one container of an environment of test dependencies
// that is ours. It is where the others send what leaves their network, so it
// answers as 169.254.255.254, each environment its own: it passes what goes to
// the port of a declared dependency on to that, and refuses the rest by name.
// Nothing else leaves the network but answers to who calls from outside. It also looks from inside whether dependencies are ready.
//
// It is built from the standard library and x/sys alone, so that its program is
// small; the paasta binary can be that program, too.
package gateway

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Production is the address at which hosts reach every service.
const Production = "169.254.255.254"

// The container's config is in this variable, or, where it is too long for that,
// in this file.
const (
	ConfigVariable = "PAASTA_GATEWAY"
	ConfigFile     = "/config.json"
)

// A Config says what one gateway does. Addresses are IPv4, without a prefix.
type Config struct {
	Address   string            `json:"address"`   // of this container
	Router    string            `json:"router"`    // what the others have as default gateway; this container takes it on
	Next      string            `json:"next"`      // the way out, for answers to calls from beyond the engine's machine; "" for none
	Bits      int               `json:"bits"`      // of the network
	Clients   map[string]Client `json:"clients"`   // by address
	Otherwise string            `json:"otherwise"` // the address of the client that strangers count as
	Ports     map[int]Port      `json:"ports"`     // every proxy_port of soa-configs
	Checks    map[string]Check  `json:"checks"`    // by dependency
}

// A Client is a container that calls others.
type Client struct {
	Name     string        `json:"name"`
	Declares string        `json:"declares"` // the file with its test dependencies
	Routes   map[int]Route `json:"routes"`   // by proxy port
}

// A Route is where a proxy port leads.
type Route struct {
	Dependency string   `json:"dependency"`
	Targets    []string `json:"targets"` // host:port
}

// A Port is a namespace of soa-configs that has a proxy port.
type Port struct {
	Namespace string `json:"namespace"` // service.namespace
	HTTP      bool   `json:"http"`
}

// A Check says when a dependency is ready.
type Check struct {
	Address string `json:"address"`        // host:port
	Path    string `json:"path,omitempty"` // "" when a connection is enough
	TLS     bool   `json:"tls,omitempty"`
}

// A Question is a line of the container's standard input, as JSON. Asking that
// way works wherever the engine does, with no port of the gateway's own.
type Question struct {
	ID     int64         `json:"id"`               // comes back with the answer
	Ready  string        `json:"ready,omitempty"`  // a dependency; "" only asks who was refused
	Within time.Duration `json:"within,omitempty"` // how long to wait until it is ready
}

// An Answer is a line of its standard output.
type Answer struct {
	ID      int64     `json:"id"`
	Why     string    `json:"why,omitempty"` // it is not ready; "" if it is
	Refused []Refused `json:"refused"`       // up to now, sorted
}

// A Refused is a call to something that the caller has not declared.
type Refused struct {
	Client    string `json:"client"`
	Port      int    `json:"port"`
	Namespace string `json:"namespace"` // "" when no service has the port
	Declares  string `json:"declares"`
	Count     int    `json:"count"`
}

// String says it in a sentence.
func (r Refused) String() string {
	what := "the port of " + r.Namespace
	if r.Namespace == "" {
		what = "a port that no service in soa-configs has"
	}
	return fmt.Sprintf("%s called %s:%d, %s, which %s does not declare", r.Client, Production, r.Port, what, r.Declares)
}

//go:embed *.go program/*.go
var sources embed.FS

// Version changes with the source of this package.
func Version() string {
	sum := sha256.New()
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		panic(err) // it was embedded
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// Run does it until ctx ends.
func Run(ctx context.Context) error {
	text := []byte(os.Getenv(ConfigVariable))
	if len(text) == 0 {
		var err error
		if text, err = os.ReadFile(ConfigFile); err != nil {
			return fmt.Errorf("read what to do: %w (this runs only in the container of an environment of test dependencies)", err)
		}
	}
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	g := &gateway{c: c, out: os.Stderr, refused: map[[2]string]*Refused{}, listening: map[int]bool{}}
	listeners, err := g.listen()
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for port, l := range listeners {
		context.AfterFunc(ctx, func() { l.Close() })
		running.Go(func() { g.accept(ctx, l, port) })
	}
	running.Go(func() { g.sniff(ctx) })
	// Not waited for: nothing ends a read of standard input.
	go g.answer(ctx, os.Stdin, os.Stdout)
	<-ctx.Done()
	return nil
}

// answer answers questions until there are no more.
func (g *gateway) answer(ctx context.Context, questions io.Reader, answers io.Writer) {
	var writing sync.Mutex
	out := json.NewEncoder(answers)
	for in := bufio.NewScanner(questions); in.Scan(); {
		var q Question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			fmt.Fprintln(g.out, "a question that is none:", err)
			continue
		}
		go func() {
			a := Answer{ID: q.ID}
			if q.Ready != "" {
				ctx, cancel := context.WithTimeout(ctx, q.Within)
				defer cancel()
				if err := Wait(ctx, g.c.Checks[q.Ready]); err != nil {
					a.Why = err.Error()
				}
			}
			a.Refused = g.list()
			writing.Lock()
			defer writing.Unlock()
			_ = out.Encode(a) // whoever asked may be gone
		}()
	}
}

// listen takes on the addresses, in this order: what comes to the router's
// address before the production address is there would be passed on to the host.
func (g *gateway) listen() (map[int]net.Listener, error) {
	if err := addAddress("lo", Production, 32); err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for port, p := range g.c.Ports {
		ports[port] = p.HTTP
	}
	for _, client := range g.c.Clients {
		for port := range client.Routes {
			ports[port] = true
		}
	}
	listeners := map[int]net.Listener{}
	for port, wanted := range ports {
		if !wanted {
			continue // refused by the kernel; sniff says so
		}
		l, err := net.Listen("tcp4", net.JoinHostPort(Production, strconv.Itoa(port)))
		if err != nil {
			return nil, err
		}
		listeners[port], g.listening[port] = l, true
	}
	device, err := deviceOf(g.c.Address)
	if err != nil {
		return nil, err
	}
	if err := dropDefaultRoute(g.c.Router); err != nil {
		return nil, err
	}
	if g.c.Next != "" {
		if err := letAnswersOut(g.c.Next); err != nil {
			return nil, err
		}
	}
	return listeners, addAddress(device, g.c.Router, g.c.Bits)
}

type gateway struct {
	c         Config
	listening map[int]bool
	out       io.Writer

	mu      sync.Mutex
	refused map[[2]string]*Refused // by client and port
	turn    map[string]int
}

// client returns who calls from an address.
func (g *gateway) client(address net.Addr) Client {
	if a, err := netip.ParseAddrPort(address.String()); err == nil {
		if c, ok := g.c.Clients[a.Addr().Unmap().String()]; ok {
			return c
		}
	}
	return g.c.Clients[g.c.Otherwise]
}

// refuse notes a call that nobody answers, and returns what to say about it.
func (g *gateway) refuse(client Client, port int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := [2]string{client.Name, strconv.Itoa(port)}
	r := g.refused[key]
	if r == nil {
		r = &Refused{Client: client.Name, Port: port, Namespace: g.c.Ports[port].Namespace, Declares: client.Declares}
		g.refused[key] = r
		fmt.Fprintln(g.out, r)
	}
	r.Count++
	return r.String()
}

// list is who was refused.
func (g *gateway) list() []Refused {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Refused, 0, len(g.refused))
	for _, r := range g.refused {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b Refused) int {
		return cmp.Or(strings.Compare(a.Client, b.Client), cmp.Compare(a.Port, b.Port))
	})
	return list
}

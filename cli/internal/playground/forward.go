//go:build linux

package playground

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A Forward is one port of the host's loopback that leads inside.
type Forward struct {
	Port   int    `json:"port"`
	What   string `json:"what"`
	Target string `json:"target"`          // inside
	Access string `json:"access"`          // who on this host may use it, and for what
	Error  string `json:"error,omitempty"` // why it is not open
}

// Who on this host may use a forward. Whoever has an account on it can connect.
const (
	accessAPI       = "all may read, and ask for a look at the tags"
	accessZooKeeper = "root; changes need zookeeper_auth"
	accessMarathon  = "all may read; changes need the token in DIR/env"
	accessRegistry  = "all may pull; pushes go through DOCKER_HOST"
	accessProxy     = "all"
)

// fixedForwards are open from the start.
func (p *Playground) fixedForwards() []Forward {
	var fixed []Forward
	for _, f := range []Forward{
		{Port: PortAPI, What: "API and dashboard", Access: accessAPI},
		{Port: PortZooKeeper, What: "ZooKeeper", Access: accessZooKeeper},
		{Port: PortMarathon, What: "Marathon", Access: accessMarathon},
		{Port: PortRegistry, What: "Docker registry", Access: accessRegistry},
	} {
		f.Target = p.at(f.Port)
		fixed = append(fixed, f)
	}
	return fixed
}

// wantedForwards adds the proxy ports of a tree to the fixed ones. A namespace
// that is broken, or whose file vanished while the agent serves it, keeps the port
// that it had, and nobody else gets that: the agent serves what was last good, too.
func (p *Playground) wantedForwards(tree *soaconfig.Tree, had []Forward, served func(Forward) bool) []Forward {
	wanted := p.fixedForwards()
	taken := map[int]bool{}
	for _, f := range wanted {
		taken[f.Port] = true
	}
	add := func(port int, registration string) {
		if !taken[port] {
			taken[port] = true
			wanted = append(wanted, Forward{Port: port, What: registration, Target: fmt.Sprintf("%s:%d", Link, port), Access: accessProxy})
		}
	}
	kept := map[string]bool{}
	for _, f := range had {
		if service, name, ok := strings.Cut(f.What, "."); ok && (broken(tree, service, name) || vanished(tree, f) && served(f)) {
			kept[f.What] = true
			add(f.Port, f.What)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(tree.Services)) {
		namespaces := tree.Services[service].Namespaces.Valid
		for _, name := range slices.Sorted(maps.Keys(namespaces)) {
			if port := namespaces[name].ProxyPort; port != nil && !kept[service+"."+name] {
				add(*port, service+"."+name)
			}
		}
	}
	slices.SortStableFunc(wanted[len(p.fixedForwards()):], func(a, b Forward) int { return strings.Compare(a.What, b.What) })
	return wanted
}

// proxiesOf returns the proxy ports among forwards.
func (p *Playground) proxiesOf(all []Forward) []Forward {
	fixed := p.fixedForwards()
	return slices.DeleteFunc(all, func(f Forward) bool {
		return slices.ContainsFunc(fixed, func(other Forward) bool { return other.Port == f.Port })
	})
}

// broken tells whether a namespace may be there, and nobody can say how.
func broken(tree *soaconfig.Tree, service, name string) bool {
	s := tree.Services[service]
	if s == nil {
		return false
	}
	_, _, err := s.Namespaces.Find(name)
	return err != nil
}

// vanished tells whether a proxy port was that of a namespace whose file is not
// there any more.
func vanished(tree *soaconfig.Tree, f Forward) bool {
	service, _, isProxy := strings.Cut(f.What, ".")
	s := tree.Services[service]
	return isProxy && (s == nil || s.Namespaces.File == "")
}

func (p *Playground) forwardsFile() string { return p.path("run", "forwards.json") }

// Forwards returns what the forwarder has, also what it would like to have and
// cannot.
func (p *Playground) Forwards() ([]Forward, error) {
	text, err := os.ReadFile(p.forwardsFile())
	if err != nil {
		return nil, err
	}
	var all []Forward
	return all, json.Unmarshal(text, &all)
}

// forwards tells whether the fixed forwards are open.
func (p *Playground) forwards(context.Context, *Namespace) error {
	if !p.readPID("forwarder").alive() {
		return errors.New("the forwarder does not run")
	}
	open, err := p.Forwards()
	if err != nil {
		return err
	}
	for _, want := range p.fixedForwards() {
		at := slices.IndexFunc(open, func(f Forward) bool { return f.Port == want.Port })
		if at < 0 {
			return fmt.Errorf("port %d is not forwarded", want.Port)
		}
		if open[at].Error != "" {
			return fmt.Errorf("port %d is not forwarded: %s", want.Port, open[at].Error)
		}
	}
	return nil
}

// Forward listens on the host's loopback, and connects who comes with the
// inside, until ctx ends. Proxy ports come and go with soa-configs.
func (p *Playground) Forward(ctx context.Context, log *slog.Logger) error {
	n, err := p.Enter()
	if err != nil {
		return err
	}
	defer n.Close()
	f := &forwarder{p: p, n: n, log: log, open: map[int]*opened{}}
	// What a predecessor had counts while a namespace is broken.
	had, err := p.Forwards()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("read the forwards of a predecessor failed", "path", p.forwardsFile(), "err", err)
	}
	if err := removeIfThere(p.forwardsFile()); err != nil {
		return err
	}
	f.set(ctx, append(p.fixedForwards(), p.proxiesOf(had)...))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { f.retry(ctx) })
	w := &soaconfig.Watcher{Dir: p.SoaDir(), Options: soaconfig.Options{Clusters: []string{Cluster}}}
	err = w.Run(ctx,
		func(t *soaconfig.Tree, _ []string) { f.follow(ctx, t) },
		func(err error) { log.Warn("read soa-configs failed", "err", err) })
	stopped := ctx.Err() != nil
	cancel()
	wg.Wait()
	f.set(ctx, nil)
	f.conns.Wait()
	if stopped {
		return nil
	}
	return err
}

// A forwarder owns the listeners.
type forwarder struct {
	p   *Playground
	n   *Namespace
	log *slog.Logger

	following sync.Mutex // held by follow, and for tree
	tree      *soaconfig.Tree

	mu     sync.Mutex
	wanted []Forward
	open   map[int]*opened

	complained time.Time

	conns sync.WaitGroup // what accepts, and what was accepted
}

// An opened forward is a listener and where it leads.
type opened struct {
	net.Listener
	target string
}

// follow opens and closes what tree says; nil is the one that it said last.
func (f *forwarder) follow(ctx context.Context, tree *soaconfig.Tree) {
	f.following.Lock()
	defer f.following.Unlock()
	f.mu.Lock()
	wanted := f.wanted
	f.mu.Unlock()
	unsettled := func(w Forward) bool { return w.Error != "" || f.tree != nil && vanished(f.tree, w) }
	if tree == nil && !slices.ContainsFunc(wanted, unsettled) {
		return
	}
	if tree != nil {
		f.tree = tree
	}
	if f.tree != nil {
		wanted = f.p.wantedForwards(f.tree, wanted, f.served(ctx))
	}
	f.set(ctx, wanted)
}

// retry tries ports that were taken again, and whether the agent still serves what
// soa-configs lack.
func (f *forwarder) retry(ctx context.Context) {
	for sleep(ctx, 5*time.Second) {
		f.follow(ctx, nil)
	}
}

// served tells whether somebody inside listens where a forward leads.
func (f *forwarder) served(ctx context.Context) func(Forward) bool {
	return func(w Forward) bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := f.n.DialContext(ctx, "tcp", w.Target)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
}

// set opens what is wanted and not open, closes what is open and not wanted,
// and writes down how that went.
func (f *forwarder) set(ctx context.Context, wanted []Forward) {
	f.mu.Lock()
	defer f.mu.Unlock()
	had := map[int]string{}
	for _, w := range f.wanted {
		had[w.Port] = w.Error
	}
	keep := map[int]bool{}
	wanted = slices.Clone(wanted)
	for i := range wanted {
		w := &wanted[i]
		keep[w.Port] = true
		if o := f.open[w.Port]; o != nil && o.target == w.Target {
			w.Error = ""
			continue
		}
		w.Error = ""
		if err := f.listen(ctx, *w); err != nil {
			w.Error = err.Error()
			if had[w.Port] != w.Error {
				f.log.Warn("forward a port failed", "port", w.Port, "what", w.What, "err", err)
			}
			continue
		}
		f.log.Info("forwarding", "port", w.Port, "what", w.What)
	}
	for port, o := range f.open {
		if !keep[port] {
			o.Close()
			delete(f.open, port)
			f.log.Info("no longer forwarding", "port", port)
		}
	}
	f.wanted = wanted
	text, err := json.MarshalIndent(wanted, "", "  ")
	if err != nil {
		panic(err) // strings and numbers
	}
	if err := atomicfile.Write(f.p.forwardsFile(), append(text, '\n'), 0o644); err != nil {
		f.log.Warn("write the list of forwards failed", "err", err)
	}
}

// listen opens one forward. The caller holds the lock.
func (f *forwarder) listen(ctx context.Context, w Forward) error {
	if o := f.open[w.Port]; o != nil {
		o.Close()
		delete(f.open, w.Port)
	}
	if by, taken, err := portTaken(f.p.Address, w.Port); err != nil {
		return err
	} else if taken {
		return fmt.Errorf("%s is taken by %s", f.p.at(w.Port), by)
	}
	l, err := net.Listen("tcp", f.p.at(w.Port))
	if err != nil {
		return err
	}
	o := &opened{l, w.Target}
	f.open[w.Port] = o
	switch w.Port {
	case PortRegistry:
		f.conns.Go(func() { f.serveReads(ctx, o) })
	case PortZooKeeper: // whoever can read a node can compute the password of its session, and end that
		f.conns.Go(func() { f.accept(ctx, o, isOurs) })
	default:
		f.conns.Go(func() { f.accept(ctx, o, func(*net.TCPConn) bool { return true }) })
	}
	return nil
}

// accept serves a listener until it is closed. Who may not use it is reset.
func (f *forwarder) accept(ctx context.Context, o *opened, may func(*net.TCPConn) bool) {
	for {
		conn, err := o.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, as a rule: some will be closed soon.
			f.log.Warn("accept a connection failed", "err", err)
			if !sleep(ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		client := conn.(*net.TCPConn)
		f.conns.Go(func() {
			if !may(client) {
				reset(client)
				f.complain(o.target, errors.New("its client belongs to another account"))
				return
			}
			f.connect(ctx, client, o.target)
		})
	}
}

// serveReads serves an HTTP listener until it is closed or ctx ends.
func (f *forwarder) serveReads(ctx context.Context, o *opened) {
	srv := &http.Server{Handler: readOnly(f.n.DialContext, o.target), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(o); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		f.log.Warn("serve a forward failed", "addr", o.target, "err", err)
	}
	_ = srv.Close()
}

// readOnly passes on requests that change nothing: what is in the registry runs
// as root inside, and it has no accounts. The engine inside needs no forward to
// push to it.
func readOnly(dial func(ctx context.Context, network, address string) (net.Conn, error), target string) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DialContext: dial},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return httpserver.OwnHostOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this forward of the registry is for reading: push with the playground's engine, DOCKER_HOST in DIR/env", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
}

// connect joins a connection with a new one inside. When there is none to be
// had, the client is reset, which is what it would have seen inside. The end of
// ctx resets both.
func (f *forwarder) connect(ctx context.Context, client *net.TCPConn, target string) {
	dialing, cancel := context.WithTimeout(ctx, 30*time.Second)
	inside, err := f.n.DialContext(dialing, "tcp", target)
	cancel()
	if err != nil {
		reset(client)
		f.complain(target, err)
		return
	}
	backend := inside.(*net.TCPConn)
	stop := context.AfterFunc(ctx, func() {
		reset(client)
		reset(backend)
	})
	defer stop()
	join(client, backend)
}

// complain logs a connection that could not be forwarded; not more than one a
// second, for whoever asks in vain asks often.
func (f *forwarder) complain(target string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.complained) >= time.Second {
		f.complained = now
		f.log.Warn("forward a connection failed", "addr", target, "err", err)
	}
}

// join copies both ways until both ends are done. An end that closes one
// direction closes it for the other too; one that breaks resets the other.
func join(a, b *net.TCPConn) {
	var wg sync.WaitGroup
	copyOneWay := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			reset(to)
			reset(from)
			return
		}
		_ = to.CloseWrite() // an error means that it is closed already
	}
	wg.Go(func() { copyOneWay(a, b) })
	wg.Go(func() { copyOneWay(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}

// reset closes a connection so that its peer sees it as broken, not as ended.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only when it is closed already
	c.Close()
}

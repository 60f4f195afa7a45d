package deployd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/deployd"
	"github.com/gopaasta/paasta/docker/marathon/marathontest"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
	"github.com/gopaasta/paasta/paasta/zk/zktest"
)

const (
	cluster = "testcluster"
	sha1    = "1111111111111111111111111111111111111111"
	sha2    = "2222222222222222222222222222222222222222"
	sha3    = "3333333333333333333333333333333333333333"
	web     = "web.main"
)

// A world is everything around a deployd: a real ZooKeeper, a Marathon that
// does what the test says, soa-configs, and the tags of a repository.
type world struct {
	t        testing.TB
	zkAddr   string
	conn     *zk.Conn
	registry *registry.ZooKeeper
	marathon *marathontest.Server
	config   sysconfig.Config
	options  func(*deployd.Options)
	base     string // of the latest deployd's status pages

	mu      sync.Mutex
	tags    []paasta.Tag
	gitErr  error
	gitSlow map[string]time.Duration // by url
	reads   map[string]int           // of tags, by url
	second  int
}

const smartstack = `main:
  proxy_port: 20001
  mode: http
  healthcheck_uri: /status
`

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldAt(t, zktest.Start(t).Addr())
}

// newWorldAt makes a world in a ZooKeeper that is there, "host:port/root".
func newWorldAt(t testing.TB, zkAddr string) *world {
	t.Helper()
	w := &world{t: t, zkAddr: zkAddr, marathon: marathontest.Start(t), gitSlow: map[string]time.Duration{}, reads: map[string]int{}}
	w.conn = w.dial()
	w.registry = registry.NewZooKeeper(w.conn)
	w.config = sysconfig.Config{
		Cluster: cluster, Clusters: []string{cluster}, SoaDir: t.TempDir(), Hostname: "master1", ZooKeeper: w.zkAddr,
		DockerRegistry: "registry:5000", HostnameUniqueSize: -1,
		Deployd: sysconfig.Deployd{DrainTimeout: 20 * time.Second, Resync: time.Minute, GitPoll: time.Minute},
	}
	w.soa("web", "service.yaml", "git_url: fake:web\ndescription: a service\n")
	w.soa("web", "smartstack.yaml", smartstack)
	w.soa("web", "deploy.yaml", "pipeline:\n- step: "+cluster+".main\n")
	w.instance("instances: 3\n")
	return w
}

func (w *world) dial() *zk.Conn {
	w.t.Helper()
	conn, err := zk.Dial(zk.Options{Servers: w.zkAddr, Timeout: 2 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	return conn
}

// instance writes web's only instance, main, with more of its keys.
func (w *world) instance(keys string) {
	w.soa("web", "marathon-"+cluster+".yaml", "main:\n  cpus: 0.1\n  mem: 64\n  "+strings.ReplaceAll(strings.TrimRight(keys, "\n"), "\n", "\n  ")+"\n")
}

// soa writes one file of soa-configs, as git would: a new file that takes the
// old one's place. "" removes it.
func (w *world) soa(service, name, text string) {
	w.t.Helper()
	dir := filepath.Join(w.config.SoaDir, service)
	must(w.t, os.MkdirAll(dir, 0o755))
	if text == "" {
		must(w.t, os.Remove(filepath.Join(dir, name)))
		return
	}
	must(w.t, os.WriteFile(filepath.Join(dir, ".new"), []byte(text), 0o644))
	must(w.t, os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, name)))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tag adds a tag, a second later than the one before.
func (w *world) tag(target string, kind paasta.TagKind, sha string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.second++
	w.tags = append(w.tags, paasta.Tag{
		Target: target, Kind: kind, SHA: sha, Time: time.Date(2026, 1, 1, 0, 0, w.second, 0, time.UTC),
	})
}

// deploy marks a commit for web's deploy group and kicks.
func (w *world) deploy(sha string) {
	w.t.Helper()
	w.tag(cluster+".main", paasta.TagDeploy, sha)
	w.kick("web")
}

func (w *world) kick(service string) {
	w.t.Helper()
	err := w.conn.Create(w.ctx(), paasta.KickPath(cluster, service), nil)
	if err != nil && !strings.Contains(err.Error(), zk.ErrNodeExists.Error()) {
		w.t.Fatal(err)
	}
}

func (w *world) git(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gitErr = err
}

// slowGit makes a read of web's tags take d.
func (w *world) slowGit(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gitSlow["fake:web"] = d
}

func (w *world) readTags(ctx context.Context, url string) ([]paasta.Tag, error) {
	w.mu.Lock()
	tags, err, slow := slices.Clone(w.tags), w.gitErr, w.gitSlow[url]
	w.reads[url]++
	w.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(slow):
	}
	return tags, err
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

// start runs a deployd and returns how to stop it; the test's end does, too.
func (w *world) start() (stop func()) {
	w.t.Helper()
	conn := w.dial()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	w.base = "http://" + l.Addr().String()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	o := deployd.Options{
		Config: w.config, ZK: conn, Tags: w.readTags, Listener: l, Log: log,
		Settle: time.Millisecond, HoldEntries: time.Second, HoldInstances: 2 * time.Second,
	}
	if w.options != nil {
		w.options(&o)
	}
	o.Marathon, err = marathon.New(marathon.Options{URLs: []string{w.marathon.URL}, Log: o.Log})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- deployd.Run(ctx, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("deployd: %v", err)
			}
		case <-time.After(20 * time.Second):
			w.t.Error("deployd does not stop")
		}
		conn.Close()
	})
	w.t.Cleanup(stop)
	return stop
}

// until waits for a condition, which says what is still missing, "" when
// nothing is.
func (w *world) until(what string, missing func() string) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		why := missing()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %s\n%s", what, why, w.dump())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// dump is what is, for a failure's message.
func (w *world) dump() string {
	var b strings.Builder
	for _, id := range w.marathon.Apps() {
		fmt.Fprintf(&b, "app %s size %d\n", id, w.marathon.Size(id))
	}
	for _, t := range w.marathon.Tasks("") {
		fmt.Fprintf(&b, "task %s %s alive %v\n", t.ID, t.State, t.Alive != nil && *t.Alive)
	}
	for _, n := range w.entries() {
		fmt.Fprintf(&b, "entry %s:%d weight %d %s\n", n.Host, n.Port, n.Weight, n.Labels[registry.LabelTaskID])
	}
	text, err := json.MarshalIndent(w.status("web", "main"), "", " ")
	fmt.Fprintf(&b, "status %s %v\n", text, err)
	return b.String()
}

// status asks deployd.
func (w *world) status(service, instance string) paasta.BounceStatus {
	var s paasta.BounceStatus
	response, err := http.Get(w.base + "/v1/instances/" + service + "/" + instance)
	if err != nil {
		return paasta.BounceStatus{Why: err.Error()}
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		return paasta.BounceStatus{Why: err.Error()}
	}
	return s
}

func (w *world) untilState(state string) paasta.BounceStatus {
	w.t.Helper()
	var s paasta.BounceStatus
	w.until("status", func() string {
		if s = w.status("web", "main"); s.State != state {
			return fmt.Sprintf("state is %q (%s), want %q", s.State, s.Why, state)
		}
		return ""
	})
	return s
}

func (w *world) entries() []registry.Node {
	set, err := w.registry.List(w.ctx(), web)
	must(w.t, err)
	return set.Nodes
}

// untilRunning waits until the one app runs sha with n tasks, all of them and
// nothing else registered.
func (w *world) untilRunning(sha string, n int) string {
	w.t.Helper()
	var app string
	w.until("run "+sha[:8], func() string {
		apps := w.marathon.Apps()
		if len(apps) != 1 || !strings.Contains(apps[0], "git"+sha[:8]) {
			return fmt.Sprintf("apps %v", apps)
		}
		app = apps[0]
		tasks := w.marathon.Tasks(app)
		if len(tasks) != n || w.marathon.Size(app) != n {
			return fmt.Sprintf("%d tasks, size %d, want %d", len(tasks), w.marathon.Size(app), n)
		}
		entries := w.entries()
		for _, e := range entries {
			if e.Weight != registry.DefaultWeight || e.Labels[registry.LabelGitSHA] != sha {
				return fmt.Sprintf("entry %+v", e)
			}
		}
		if len(entries) != n {
			return fmt.Sprintf("%d entries, want %d", len(entries), n)
		}
		return ""
	})
	return app
}

// An agent is what paasta smartstack is to deployd: it announces itself, follows
// a registration, and says which backends it has.
type agent struct {
	t        testing.TB
	http     *httptest.Server
	conn     *zk.Conn
	registry *registry.ZooKeeper

	mu          sync.Mutex
	node        paasta.AgentNode
	generation  int64
	set         registry.Set
	frozen      bool
	refuse      map[string]bool // tasks that never come up
	elsewhere   bool            // every task is
	connections map[int]int     // by port
}

func (w *world) agent(host string, addrs ...string) *agent {
	w.t.Helper()
	return w.agentIn(nil, host, addrs...)
}

// agentIn is an agent that says where it is.
func (w *world) agentIn(location map[string]string, host string, addrs ...string) *agent {
	w.t.Helper()
	a := &agent{t: w.t, conn: w.dial(), refuse: map[string]bool{}, connections: map[int]int{}}
	a.registry = registry.NewZooKeeper(a.conn)
	a.http = httptest.NewServer(http.HandlerFunc(a.serve))
	w.t.Cleanup(a.http.Close)
	a.node = paasta.AgentNode{Host: host, Status: a.http.URL, Addrs: addrs, Applied: map[string]int64{}, Location: location}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.follow(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
	w.until("announce "+host, func() string {
		if _, _, err := w.conn.Get(w.ctx(), paasta.AgentsPath+"/"+host); err != nil {
			return err.Error()
		}
		return ""
	})
	return a
}

func (a *agent) follow(ctx context.Context) {
	wake := make(chan struct{}, 1)
	if err := a.registry.Watch(ctx, web, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}); err != nil {
		a.t.Error(err)
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(time.Second):
		}
		a.apply(ctx)
	}
}

func (a *agent) apply(ctx context.Context) {
	set, err := a.registry.List(ctx, web)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.frozen {
		return
	}
	a.set = set
	a.generation++
	a.node.Applied[web] = set.Version
	text, err := json.Marshal(a.node)
	if err != nil {
		a.t.Error(err)
	}
	p := paasta.AgentsPath + "/" + a.node.Host
	if err := a.conn.Set(ctx, p, text, -1); err != nil {
		_ = a.conn.CreateEphemeral(ctx, p, text)
	}
}

func (a *agent) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	a.generation++
}

func (a *agent) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Path == "/v1/connections" {
		var port int
		fmt.Sscan(r.URL.Query().Get("port"), &port)
		json.NewEncoder(w).Encode(paasta.AgentConnections{Connections: a.connections[port]})
		return
	}
	answer := paasta.AgentBackends{Registration: web, Generation: a.generation, Version: a.set.Version}
	for _, n := range a.set.Nodes {
		b := paasta.AgentBackend{Host: n.Host, Port: n.Port, TaskID: n.Labels[registry.LabelTaskID], Weight: n.Weight, Status: "UP", Up: n.Weight > 0}
		if a.refuse[b.TaskID] {
			b.Status, b.Up = "PROBING", false
		}
		if a.elsewhere {
			b.Status, b.Up = paasta.BackendElsewhere, false
		}
		answer.Backends = append(answer.Backends, b)
	}
	json.NewEncoder(w).Encode(answer)
}

func (w *world) get(path string) string {
	response, err := http.Get(w.base + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	var b strings.Builder
	if _, err := fmt.Fprint(&b, response.Status, " "); err != nil {
		return err.Error()
	}
	var v any
	if err := json.NewDecoder(response.Body).Decode(&v); err != nil {
		return err.Error()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return b.String() + string(text)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

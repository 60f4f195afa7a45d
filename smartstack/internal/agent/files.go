package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/names"
)

// files are what the agent writes besides what it tells HAProxy. They follow
// within moments, so that many changes cost one write.
type files struct {
	configAt time.Time // when haproxy.cfg is to be written; zero: it is up to date
	cacheAt  time.Time
	// One writer at a time works beside Run, which only takes the snapshots.
	work   sync.WaitGroup
	busy   atomic.Bool
	failed atomic.Bool // haproxy.cfg could not be written
	// The earliest times of the next ones, in Unix nanoseconds: what takes long is
	// done less often.
	configNext, cacheNext atomic.Int64
	synapse               map[string]string // what each file for other tools holds
}

const (
	configDelay = 100 * time.Millisecond
	cacheDelay  = 500 * time.Millisecond
)

func (f *files) configDirty(now time.Time) {
	if f.configAt.IsZero() {
		f.configAt = latest(now.Add(configDelay), time.Unix(0, f.configNext.Load()))
	}
}

func (f *files) cacheDirty(now time.Time) {
	if f.cacheAt.IsZero() {
		f.cacheAt = latest(now.Add(cacheDelay), time.Unix(0, f.cacheNext.Load()))
	}
}

// clean says that haproxy.cfg was just written.
func (f *files) clean() { f.configAt = time.Time{} }

func (f *files) due() time.Time {
	if f.configAt.IsZero() || !f.cacheAt.IsZero() && f.cacheAt.Before(f.configAt) {
		return f.cacheAt
	}
	return f.configAt
}

func (f *files) write(a *Agent, now time.Time) {
	if f.failed.Swap(false) {
		f.configDirty(now.Add(time.Second))
	}
	if f.busy.Load() {
		// What is due waits for the writer, and wakes us again.
		for _, at := range []*time.Time{&f.configAt, &f.cacheAt} {
			if !at.IsZero() && !now.Before(*at) {
				*at = now.Add(20 * time.Millisecond)
			}
		}
		return
	}
	if !f.configAt.IsZero() && !now.Before(f.configAt) {
		f.configAt = time.Time{}
		f.beside(&f.configNext, a.configWriter())
		return // one at a time
	}
	if !f.cacheAt.IsZero() && !now.Before(f.cacheAt) {
		f.cacheAt = time.Time{}
		a.writeSynapse()
		f.beside(&f.cacheNext, a.cacheWriter(now))
	}
}

// beside runs write in a goroutine of its own, and notes when to do so again.
func (f *files) beside(next *atomic.Int64, write func()) {
	f.busy.Store(true)
	f.work.Go(func() {
		defer f.busy.Store(false)
		begin := time.Now()
		write()
		next.Store(rest(begin).UnixNano())
	})
}

// rest is when to write a file again that was begun at begin and is written now:
// in a storm of changes a file of megabytes must not cost more than what it
// follows.
func rest(begin time.Time) time.Time {
	now := time.Now()
	return now.Add(min(50*now.Sub(begin), 5*time.Second))
}

// flush writes what is due soon, before the agent ends.
func (a *Agent) flush() {
	for range 2 { // one at a time
		a.files.work.Wait()
		a.files.write(a, time.Now().Add(time.Hour))
	}
	a.files.work.Wait()
}

// writeConfig writes what HAProxy has, so that its next start begins from there.
func (a *Agent) writeConfig() {
	a.files.work.Wait() // else an older one may come after this
	a.configWriter()()
}

// configWriter returns what writes haproxy.cfg as HAProxy is now.
func (a *Agent) configWriter() func() {
	if len(a.hap.running) == 0 {
		return func() {}
	}
	sections := make([]haproxy.Section, 0, len(a.hap.running))
	for _, s := range a.hap.running {
		sections = append(sections, s)
	}
	custom := a.hap.custom
	return func() {
		err := a.o.Process.WriteBy(func(w *bufio.Writer) { haproxy.AssembleTo(w, a.o.Global, custom, sections) })
		if err != nil {
			a.log.Error("wrote haproxy.cfg", "err", err)
			a.files.failed.Store(true)
		}
	}
}

// cache is what an agent that starts knows of the time before.
type cache struct {
	Saved         time.Time                `json:"saved"`
	Registrations map[string][]cachedEntry `json:"registrations"`
}

type cachedEntry struct {
	Host    string            `json:"host"`
	Port    int               `json:"port"`
	Name    string            `json:"name,omitempty"`
	Weight  int               `json:"weight"`
	Options string            `json:"haproxy_server_options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Path    string            `json:"path,omitempty"`
	Czxid   int64             `json:"czxid,omitempty"`
	Missing time.Time         `json:"missing,omitzero"`
	Addr    netip.Addr        `json:"addr,omitzero"` // of a host that is a name
}

func (a *Agent) cacheFile() string { return filepath.Join(a.dir, "cache.json") }

// cacheWriter returns what writes the cache as the members are now.
func (a *Agent) cacheWriter(now time.Time) func() {
	all := make(map[string][]cachedEntry, len(a.registrations))
	for name, r := range a.registrations {
		serving := r.members.Serving()
		entries := make([]cachedEntry, 0, len(serving))
		for _, m := range serving {
			n := m.Entry.Node
			c := cachedEntry{Host: n.Host, Port: n.Port, Name: n.Name, Weight: n.Weight, Options: n.ServerOptions, Labels: n.Labels, Path: n.Path, Czxid: n.Czxid, Missing: m.Missing}
			if m.Entry.Named {
				c.Addr = m.Entry.Addr.Addr()
			}
			entries = append(entries, c)
		}
		all[name] = entries
	}
	// What soa-configs did not tell yet is not forgotten.
	if len(a.registrations) == 0 {
		maps.Copy(all, a.old)
	}
	return func() {
		err := haproxy.WriteFileBy(a.cacheFile(), 0o600, func(w *bufio.Writer) { writeCache(w, now, all) })
		if err != nil {
			a.log.Error("wrote the cache", "err", err)
		}
	}
}

// writeCache writes a cache as JSON, one registration at a time: as one value it
// would be megabytes, twice.
func writeCache(w *bufio.Writer, now time.Time, all map[string][]cachedEntry) {
	text := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // our own struct
		}
		w.Write(b)
	}
	w.WriteString(`{"saved":`)
	text(now.UTC())
	w.WriteString(`,"registrations":{`)
	comma := ""
	for name, entries := range all {
		w.WriteString(comma)
		comma = ",\n"
		text(name)
		w.WriteByte(':')
		text(entries)
	}
	w.WriteString("}}\n")
}

// loadCache reads what was there before. Without it, or with a broken one, the
// agent begins from what HAProxy and the registry say.
func (a *Agent) loadCache() {
	text, err := os.ReadFile(a.cacheFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var c cache
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		a.log.Error("read the cache", "err", err, "path", a.cacheFile())
		return
	}
	a.old, a.oldSaved = c.Registrations, c.Saved
}

// cached returns the members of a registration that the cache has.
func (a *Agent) cached(name string) discover.Members {
	var members discover.Members
	for _, c := range a.old[name] {
		set := registry.Set{Nodes: []registry.Node{{
			Entry: registry.Entry{Host: c.Host, Port: c.Port, Name: c.Name, Weight: c.Weight, Labels: c.Labels, ServerOptions: c.Options},
			Path:  c.Path, Czxid: c.Czxid,
		}}}
		known := func(host string) (netip.Addr, error) {
			if !c.Addr.IsValid() {
				return c.Addr, names.ErrPending
			}
			a.names.Seed(host, c.Addr)
			return c.Addr, nil
		}
		entries, _ := discover.Entries(set, known) // what is no entry any more is left out
		for _, e := range entries {
			members.Adopt(discover.Member{Entry: e, Serving: true, Missing: c.Missing, Since: a.oldSaved})
		}
	}
	return members
}

// A synapseBackend is one backend as the original synapse writes it.
type synapseBackend struct {
	Name    *string           `json:"name"`
	Host    string            `json:"host"`
	Port    int               `json:"port"`
	ID      *int              `json:"id"`
	Weight  int               `json:"weight"`
	Options *string           `json:"haproxy_server_options"`
	Labels  map[string]string `json:"labels"`
}

// writeSynapse writes a file a registration for other tools, if its content
// changed.
func (a *Agent) writeSynapse() {
	if a.o.SynapseDir == "" {
		return
	}
	if err := os.MkdirAll(a.o.SynapseDir, 0o755); err != nil {
		a.log.Error("wrote files for other tools", "err", err)
		return
	}
	if a.files.synapse == nil {
		a.files.synapse = map[string]string{}
	}
	for name, r := range a.registrations {
		backends := []synapseBackend{}
		for _, m := range r.members.Serving() {
			n := m.Entry.Node
			b := synapseBackend{Host: n.Host, Port: n.Port, Weight: n.Weight, Labels: n.Labels, ID: sequence(n.Path)}
			if n.Name != "" {
				b.Name = &n.Name
			}
			if n.ServerOptions != "" {
				b.Options = &n.ServerOptions
			}
			backends = append(backends, b)
		}
		text, err := json.Marshal(backends)
		if err != nil {
			panic(err) // our own struct
		}
		if a.files.synapse[name] == string(text) {
			continue
		}
		if err := haproxy.WriteFile(filepath.Join(a.o.SynapseDir, name+".json"), text, 0o644); err != nil {
			a.log.Error("wrote a file for other tools", "err", err, "registration", name)
			continue
		}
		a.files.synapse[name] = string(text)
	}
	a.removeSynapse()
}

// removeSynapse removes the files of registrations that are gone, as the
// original does.
func (a *Agent) removeSynapse() {
	entries, err := os.ReadDir(a.o.SynapseDir)
	if err != nil {
		a.log.Error("listed files for other tools", "err", err)
		return
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") || a.registrations[name] != nil || len(a.registrations) == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(a.o.SynapseDir, e.Name())); err != nil {
			a.log.Error("removed a file for other tools", "err", err)
		}
	}
}

func (f *files) synapseGone(name string) {
	delete(f.synapse, name)
	f.cacheDirty(time.Now())
}

// sequence is the number at the end of a znode's name, nil without one.
func sequence(path string) *int {
	_, digits, ok := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], "_")
	if !ok {
		return nil
	}
	digits = digits[strings.LastIndexByte(digits, '_')+1:]
	n, err := strconv.Atoi(digits)
	if err != nil {
		return nil
	}
	return &n
}

func ensureFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return f.Close()
}

package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// files are what the agent writes besides what it tells HAProxy. They follow
// within moments, so that many changes cost one write.
type files struct {
	configAt time.Time // when haproxy.cfg is to be written; zero: it is up to date
	cacheAt  time.Time
	// The earliest times of the next ones: what takes long is done less often.
	configNext, cacheNext time.Time
	synapse               map[string]string // what each file for other tools holds
}

const (
	configDelay = 100 * time.Millisecond
	cacheDelay  = 500 * time.Millisecond
)

func (f *files) configDirty(now time.Time) {
	if f.configAt.IsZero() {
		f.configAt = latest(now.Add(configDelay), f.configNext)
	}
}

func (f *files) cacheDirty(now time.Time) {
	if f.cacheAt.IsZero() {
		f.cacheAt = latest(now.Add(cacheDelay), f.cacheNext)
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
	if !f.configAt.IsZero() && !now.Before(f.configAt) {
		f.configAt = time.Time{}
		begin := time.Now()
		a.writeConfig()
		f.configNext = rest(begin)
	}
	if !f.cacheAt.IsZero() && !now.Before(f.cacheAt) {
		f.cacheAt = time.Time{}
		begin := time.Now()
		a.saveCache(now)
		a.writeSynapse()
		f.cacheNext = rest(begin)
	}
}

// rest is when to write a file again that was begun at begin and is written now:
// in a storm of changes a file of megabytes must not cost more than what it
// follows.
func rest(begin time.Time) time.Time {
	now := time.Now()
	return now.Add(min(50*now.Sub(begin), 5*time.Second))
}

// flush writes what is due soon, before the agent ends.
func (a *Agent) flush() { a.files.write(a, time.Now().Add(time.Hour)) }

// writeConfig writes what HAProxy has, so that its next start begins from there.
func (a *Agent) writeConfig() {
	if len(a.hap.running) == 0 {
		return
	}
	sections := make([]haproxy.Section, 0, len(a.hap.running))
	for _, s := range a.hap.running {
		sections = append(sections, s)
	}
	err := a.o.Process.WriteBy(func(w *bufio.Writer) { haproxy.AssembleTo(w, a.o.Global, a.hap.custom, sections) })
	if err != nil {
		a.log.Error("wrote haproxy.cfg", "err", err)
		a.files.configDirty(time.Now().Add(time.Second))
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
}

func (a *Agent) cacheFile() string { return filepath.Join(a.dir, "cache.json") }

func (a *Agent) saveCache(now time.Time) {
	err := haproxy.WriteFileBy(a.cacheFile(), 0o600, func(w *bufio.Writer) { a.writeCache(w, now) })
	if err != nil {
		a.log.Error("wrote the cache", "err", err)
	}
}

// writeCache writes a cache as JSON, one registration at a time: as one value it
// would be megabytes, twice.
func (a *Agent) writeCache(w *bufio.Writer, now time.Time) {
	text := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // our own struct
		}
		w.Write(b)
	}
	comma := ""
	member := func(name string, entries []cachedEntry) {
		w.WriteString(comma)
		comma = ",\n"
		text(name)
		w.WriteByte(':')
		text(entries)
	}
	w.WriteString(`{"saved":`)
	text(now.UTC())
	w.WriteString(`,"registrations":{`)
	var entries []cachedEntry
	for name, r := range a.registrations {
		entries = slices.Grow(entries[:0], 1) // never null
		for _, m := range r.members.Serving() {
			n := m.Entry.Node
			entries = append(entries, cachedEntry{n.Host, n.Port, n.Name, n.Weight, n.ServerOptions, n.Labels, n.Path, n.Czxid, m.Missing})
		}
		member(name, entries)
	}
	// What soa-configs did not tell yet is not forgotten.
	if len(a.registrations) == 0 {
		for name, entries := range a.old {
			member(name, entries)
		}
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
		entries, _ := discover.Entries(set) // what is no entry any more is left out
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

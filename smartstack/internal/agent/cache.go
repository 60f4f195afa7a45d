package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
	"github.com/gopaasta/paasta/smartstack/internal/names"
)

// A journal is the file that tells an agent that starts about the time before. It
// has a line a registration, of which the last one counts: a change is one line
// more, and not all of a file of megabytes.
type journal struct {
	path        string
	begun, size int64 // of the file, when it was last written as a whole and now
}

// A journalLine is one registration as it was at a time. One without entries is
// gone.
type journalLine struct {
	Registration string        `json:"registration"`
	At           time.Time     `json:"at"`
	Entries      []cachedEntry `json:"entries,omitempty"`
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

// full tells whether to write the file as a whole: it is another process's, or
// most of it does not count any more.
func (j *journal) full() bool { return j.size == 0 || j.size > 3*j.begun+1<<16 }

// write writes the file as a whole.
func (j *journal) write(now time.Time, all map[string][]*discover.Member) error {
	size := int64(0)
	err := haproxy.WriteFileBy(j.path, 0o600, func(w *bufio.Writer) { size = lines(w, now, all) })
	if err != nil {
		return err
	}
	j.begun, j.size = size, size
	return nil
}

// add writes what changed.
func (j *journal) add(now time.Time, changed map[string][]*discover.Member, gone []string) error {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	size := lines(w, now, changed)
	for _, name := range gone {
		size += lines(w, now, map[string][]*discover.Member{name: nil})
	}
	if err := w.Flush(); err != nil {
		return err // a buffer takes everything
	}
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err := errors.Join(err, f.Close()); err != nil {
		j.size = 0 // nobody knows what it holds
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	j.size += size
	return nil
}

// lines writes registrations, one a line, and returns how many bytes that are.
func lines(w *bufio.Writer, now time.Time, all map[string][]*discover.Member) (size int64) {
	for name, members := range all {
		line := journalLine{Registration: name, At: now.UTC()}
		for _, m := range members {
			n := m.Entry.Node
			c := cachedEntry{Host: n.Host, Port: n.Port, Name: n.Name, Weight: n.Weight, Options: n.ServerOptions, Labels: n.Labels, Path: n.Path, Czxid: n.Czxid, Missing: m.Missing}
			if m.Entry.Named {
				c.Addr = m.Entry.Addr.Addr()
			}
			line.Entries = append(line.Entries, c)
		}
		text, err := json.Marshal(line)
		if err != nil {
			panic(err) // our own struct
		}
		w.Write(text)
		w.WriteByte('\n')
		size += int64(len(text)) + 1
	}
	return size
}

// read returns the lines that count. A line that is broken, as the last one is
// when the machine died under it, is left out, and err says so.
func (j *journal) read() (map[string]journalLine, error) {
	f, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]journalLine{}
	text := bufio.NewReader(f)
	var broken error
	for n := 1; ; n++ {
		line, err := text.ReadBytes('\n')
		if len(line) > 0 {
			var l journalLine
			if err := json.Unmarshal(line, &l); err != nil {
				broken = fmt.Errorf("%s:%d: %w", j.path, n, err)
			} else {
				all[l.Registration] = l
			}
		}
		if err == io.EOF {
			return all, broken
		}
		if err != nil {
			return all, fmt.Errorf("read %s: %w", j.path, err)
		}
	}
}

// loadCache reads what was there before. Without it, or with a broken one, the
// agent begins from what HAProxy and the registry say.
func (a *Agent) loadCache() {
	var err error
	if a.old, err = a.files.cache.read(); err != nil {
		a.log.Error("read the cache", "err", err)
	}
}

// cached returns the members of a registration that the cache has.
func (a *Agent) cached(name string) discover.Members {
	var members discover.Members
	old := a.old[name]
	delete(a.old, name) // it is ours from now on
	for _, c := range old.Entries {
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
			members.Put(discover.Member{Entry: e, Serving: true, Missing: c.Missing, Since: old.At})
		}
	}
	return members
}

package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
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
	begun, size int    // of the file, when it was last written as a whole and now
	line        []byte // kept for the next
}

// A journalLine is one registration as it was at a time. One that is gone has no
// entries.
type journalLine struct {
	Registration string        `json:"registration"`
	At           time.Time     `json:"at"`
	Entries      []cachedEntry `json:"entries"`
}

type cachedEntry struct {
	Host    string            `json:"host"`
	Port    int               `json:"port"`
	Name    string            `json:"name"`
	Weight  int               `json:"weight"`
	Options string            `json:"haproxy_server_options"`
	Labels  map[string]string `json:"labels"`
	Path    string            `json:"path"`
	Text    string            `json:"text"`
	Czxid   int64             `json:"czxid"`
	Missing time.Time         `json:"missing"`
	Addr    netip.Addr        `json:"addr"` // of a host that is a name
}

// full tells whether to write the file as a whole: it is another process's, or
// most of it does not count any more.
func (j *journal) full() bool { return j.size == 0 || j.size > 3*j.begun+1<<16 }

// write writes the file as a whole.
func (j *journal) write(now time.Time, all map[string][]*discover.Member) error {
	size := 0
	err := haproxy.WriteFileBy(j.path, 0o600, func(w *bufio.Writer) {
		for name, members := range all {
			j.line = appendLine(j.line[:0], name, now, members)
			size += len(j.line)
			w.Write(j.line)
		}
	})
	if err != nil {
		return err
	}
	j.begun, j.size = size, size
	return nil
}

// add writes what changed.
func (j *journal) add(now time.Time, changed map[string][]*discover.Member, gone []string) error {
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for _, name := range gone {
		changed[name] = nil
	}
	for name, members := range changed {
		j.line = appendLine(j.line[:0], name, now, members)
		j.size += len(j.line)
		if _, err = f.Write(j.line); err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		j.size = 0 // nobody knows what it holds
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	return nil
}

// appendLine is json.Marshal of a journalLine. In a storm of changes that would
// be a large part of all that the agent does.
func appendLine(b []byte, name string, now time.Time, members []*discover.Member) []byte {
	b = append(b, `{"registration":`...)
	b = appendText(b, name)
	b = append(b, `,"at":"`...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","entries":[`...)
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		n := m.Entry.Node
		b = append(b, `{"host":`...)
		b = appendText(b, n.Host)
		b = append(b, `,"port":`...)
		b = strconv.AppendInt(b, int64(n.Port), 10)
		b = append(b, `,"weight":`...)
		b = strconv.AppendInt(b, int64(n.Weight), 10)
		b = append(b, `,"czxid":`...)
		b = strconv.AppendInt(b, n.Czxid, 10)
		for _, field := range [...]struct{ key, text string }{{`,"name":`, n.Name}, {`,"haproxy_server_options":`, n.ServerOptions}, {`,"path":`, n.Path}, {`,"text":`, n.Text}} {
			if field.text != "" {
				b = appendText(append(b, field.key...), field.text)
			}
		}
		if m.Entry.Named {
			b = append(b, `,"addr":"`...)
			b = m.Entry.Addr.Addr().AppendTo(b)
			b = append(b, '"')
		}
		if !m.Missing.IsZero() {
			b = append(b, `,"missing":"`...)
			b = m.Missing.UTC().AppendFormat(b, time.RFC3339Nano)
			b = append(b, '"')
		}
		b = append(b, `,"labels":{`...)
		comma := false
		for key, label := range n.Labels {
			if comma {
				b = append(b, ',')
			}
			comma = true
			b = append(appendText(b, key), ':')
			b = appendText(b, label)
		}
		b = append(b, "}}"...)
	}
	return append(b, "]}\n"...)
}

// appendText appends s as JSON.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			text, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
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
			Path:  c.Path, Czxid: c.Czxid, Text: c.Text,
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

package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/resolver"
)

// A journal is the file that tells an agent that starts about the time before. It
// has a line a registration, of which the last one counts: a change is one line
// more, and not all of a file of megabytes.
type journal struct {
	path        string
	begun, size int                    // of the file, when it was last written as a whole and now
	old         map[string]journalLine // of the agent before, by registration
}

// A journalLine is one registration as it was at a time. One that is gone has no
// entries.
type journalLine struct {
	Registration string          `json:"registration"`
	At           time.Time       `json:"at"`
	Entries      []journalMember `json:"entries"`
}

type journalMember struct {
	Path    string          `json:"path,omitempty"`
	Entry   json.RawMessage `json:"entry,omitempty"` // as it was registered; none where path has it
	Czxid   int64           `json:"czxid"`
	Missing time.Time       `json:"missing,omitzero"`
	Addr    netip.Addr      `json:"addr,omitzero"` // of a host that is a name
}

// UnmarshalJSON also reads a member as agents wrote it once, with the keys of its
// entry beside the others.
func (m *journalMember) UnmarshalJSON(text []byte) error {
	type plain journalMember
	if err := json.Unmarshal(text, (*plain)(m)); err != nil {
		return err
	}
	if m.Entry == nil {
		m.Entry = bytes.Clone(text)
	}
	return nil
}

// full tells whether the file is to be written as a whole: it is another process's,
// or most of it does not count any more.
func (j *journal) full() bool { return j.size == 0 || j.size > 3*j.begun+1<<16 }

// write writes the lines of registrations: all that there are, if whole, in the place
// of the file, or else at its end.
func (j *journal) write(now time.Time, members map[string][]*discover.Member, whole bool) error {
	size := 0
	lines := func(w io.Writer) error {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		for name, members := range members {
			text.Reset()
			if err := encoder.Encode(newJournalLine(name, now, members)); err != nil {
				panic(err) // our own struct, and entries that were read as JSON
			}
			size += text.Len()
			if _, err := w.Write(text.Bytes()); err != nil {
				return err
			}
		}
		return nil
	}
	if whole {
		err := atomicfile.WriteFunc(j.path, 0o600, func(w *bufio.Writer) { _ = lines(w) }) // which says so when it is flushed
		if err == nil {
			j.begun, j.size = size, size
		}
		return err
	}
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(lines(f), f.Close()); err != nil {
		j.size = 0 // nobody knows what it holds
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	j.size += size
	return nil
}

func newJournalLine(name string, now time.Time, members []*discover.Member) journalLine {
	line := journalLine{Registration: name, At: now.UTC(), Entries: make([]journalMember, len(members))}
	for i, m := range members {
		n := m.Entry.Node
		line.Entries[i] = journalMember{Path: n.Path, Czxid: n.Czxid, Missing: m.Missing}
		if !n.InName() {
			line.Entries[i].Entry = n.JSON()
		}
		if m.Entry.Named {
			line.Entries[i].Addr = m.Entry.Addr.Addr()
		}
	}
	return line
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

// load reads what was there before. Without it, or with a broken one, the agent
// begins from what HAProxy and the registry say.
func (j *journal) load(log *slog.Logger) {
	var err error
	if j.old, err = j.read(); err != nil {
		log.Error("read the members of before failed, HAProxy and the registry say the rest", "err", err)
	}
}

// members returns the members of a registration that were there before, once.
func (j *journal) members(name string, names *resolver.Cache) discover.Members {
	var members discover.Members
	old := j.old[name]
	delete(j.old, name) // it is the agent's from now on
	for _, c := range old.Entries {
		node := registry.Node{Path: c.Path, Czxid: c.Czxid, Text: string(c.Entry)}
		var err error
		if node.Entry, err = registry.Decode(node.JSON()); err != nil {
			continue // it is no entry any more
		}
		set := registry.Set{Nodes: []registry.Node{node}}
		known := func(host string) (netip.Addr, error) {
			if !c.Addr.IsValid() {
				return c.Addr, resolver.ErrPending
			}
			names.Seed(host, c.Addr)
			return c.Addr, nil
		}
		entries, _ := discover.Entries(set, known)
		for _, e := range entries {
			members.Put(discover.Member{Entry: e, Serving: true, Missing: c.Missing, Since: old.At})
		}
	}
	return members
}

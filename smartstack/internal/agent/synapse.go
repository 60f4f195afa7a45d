package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/registry"
	"github.com/gopaasta/paasta/smartstack/internal/discover"
)

// synapse is a directory with a file for each backend of a registration, for other
// tools, as the original synapse writes them.
type synapse struct {
	dir   string              // "" for none
	files map[string][]string // names, by registration
}

// A synapseBackend is one backend as the original synapse writes it: each value as
// it was registered, and null where nothing was.
type synapseBackend struct {
	Name    json.RawMessage `json:"name"`
	Host    json.RawMessage `json:"host"`
	Port    json.RawMessage `json:"port"`
	ID      *int64          `json:"id"`
	Weight  json.RawMessage `json:"weight"`
	Options json.RawMessage `json:"haproxy_server_options"`
	Labels  json.RawMessage `json:"labels"`
}

// write writes the files of registrations that changed, if their content did, and
// removes those of registrations that are gone, and strays.
func (s *synapse) write(changed map[string]map[string][]*discover.Member, gone, strays []string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if s.files == nil {
		s.files = map[string][]string{}
	}
	var errs []error
	for registration, files := range changed {
		for name, members := range files {
			text := synapseText(members)
			if old, err := os.ReadFile(s.path(name)); err != nil || !bytes.Equal(old, text) {
				errs = append(errs, atomicfile.Write(s.path(name), text, 0o644))
			}
		}
		for _, name := range s.files[registration] {
			if _, ok := files[name]; !ok {
				errs = append(errs, s.remove(name))
			}
		}
		s.files[registration] = slices.Collect(maps.Keys(files))
	}
	for _, registration := range gone {
		strays = append(strays, s.files[registration]...)
		delete(s.files, registration)
	}
	for _, name := range strays {
		errs = append(errs, s.remove(name))
	}
	return errors.Join(errs...)
}

func (s *synapse) path(name string) string { return filepath.Join(s.dir, name+".json") }

func (s *synapse) remove(name string) error {
	if err := os.Remove(s.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func synapseText(members []*discover.Member) []byte {
	backends := []synapseBackend{}
	for _, m := range members {
		n := m.Entry.Node
		if n.Draining() {
			continue
		}
		var keys map[string]json.RawMessage // a struct would also take "HOST"
		if err := json.Unmarshal(n.JSON(), &keys); err != nil {
			continue // else it would be no entry
		}
		b := synapseBackend{Name: keys["name"], Host: keys["host"], Port: keys["port"], Weight: keys["weight"], Options: keys["haproxy_server_options"], Labels: keys["labels"]}
		if id, ok := registry.Sequence(n.Path); ok {
			b.ID = &id
		}
		backends = append(backends, b)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(backends); err != nil {
		panic(err) // our own struct
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

// strays lists the files that are of no registration, such as those that an earlier
// process wrote; the original removes them, too.
func (s *synapse) strays(served map[string]*registration) []string {
	if s.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil // it is made with the first file
	}
	ours := map[string]bool{}
	for _, r := range served {
		for name := range r.namespace.ByView(nil) {
			ours[name] = true
		}
	}
	var strays []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if ok && !strings.HasPrefix(name, ".") && !ours[name] {
			strays = append(strays, name)
		}
	}
	return strays
}

package agent

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/smartstack/internal/discover"
	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// synapse is a directory with a file a registration, for other tools, as the
// original synapse writes them.
type synapse struct {
	dir     string                       // "" for none
	written map[string][sha256.Size]byte // what each file holds
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

// write writes the files of what changed, if their content did, and removes those
// of what is gone.
func (s *synapse) write(changed map[string][]*discover.Member, gone []string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for name, members := range changed {
		text := synapseText(members)
		sum := sha256.Sum256(text)
		if s.written[name] == sum {
			continue
		}
		if err := haproxy.WriteFile(s.path(name), text, 0o644); err != nil {
			errs = append(errs, err)
			continue
		}
		s.written[name] = sum
	}
	for _, name := range gone {
		delete(s.written, name)
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *synapse) path(name string) string { return filepath.Join(s.dir, name+".json") }

func synapseText(members []*discover.Member) []byte {
	backends := []synapseBackend{}
	for _, m := range members {
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
	return text
}

// others lists the registrations that an earlier process wrote files of and that
// are not served, as the original removes them.
func (s *synapse) others(served map[string]*registration) []string {
	if s.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil // it is made with the first file
	}
	var others []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if ok && !strings.HasPrefix(name, ".") && served[name] == nil {
			others = append(others, name)
		}
	}
	return others
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

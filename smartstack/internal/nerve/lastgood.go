package nerve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A goodFile holds the services as their files last described them, so that an
// agent that starts while a file is broken goes on with what it said before.
type goodFile struct {
	path    string // "" for none
	written []byte
}

// read returns the services by the file that described them.
func (g *goodFile) read() (map[string]soaconfig.LocalService, error) {
	if g.path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last good local services: %w", err)
	}
	var all map[string]soaconfig.LocalService
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read the last good local services: %s: %w", g.path, err)
	}
	return all, nil
}

// write replaces what the file holds, if it holds something else.
func (g *goodFile) write(all map[string]soaconfig.LocalService) error {
	if g.path == "" {
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("write %s: %w", g.path, err)
	}
	if bytes.Equal(text, g.written) {
		return nil
	}
	if err := atomicfile.Write(g.path, text, 0o600); err != nil {
		return err
	}
	g.written = text
	return nil
}

package nerve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
)

// A Drain is the content of a drain file: a service with one that has not
// expired is published with weight 0. The shape is that of hacheck's spool, so
// its tools can write the file.
type Drain struct {
	Reason     string   `json:"reason"`
	Expiration *float64 `json:"expiration"` // Unix time; nil for never
	Creation   float64  `json:"creation"`   // Unix time
}

// Expired tells whether the drain is over.
func (d Drain) Expired(now time.Time) bool {
	return d.Expiration != nil && *d.Expiration <= unix(now)
}

// farthest is the last second that has a name, in Unix time.
const farthest = 253402300799

// Until returns when the drain ends; the zero time for never. An expiration in
// milliseconds, as some would write it, is thousands of years away.
func (d Drain) Until() time.Time {
	if d.Expiration == nil {
		return time.Time{}
	}
	return time.UnixMicro(int64(min(max(*d.Expiration, 0), farthest) * 1e6))
}

func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// parseDrain reads the text of a drain file. What is no JSON is the reason of a
// drain without end, as old tools write it: a file that is there means "down".
func parseDrain(text []byte) Drain {
	var d Drain
	if err := json.Unmarshal(text, &d); err != nil {
		return Drain{Reason: strings.TrimSpace(string(text))}
	}
	return d
}

// ReadDrain returns the drain of a service; nil when there is none that still
// holds. dir is the directory of the drain files.
func ReadDrain(dir, service string, now time.Time) (*Drain, error) {
	text, err := os.ReadFile(filepath.Join(dir, service))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := parseDrain(text)
	if d.Expired(now) {
		return nil, nil
	}
	return &d, nil
}

// WriteDrain starts a drain, in place of one that is there. The file appears
// whole or not at all.
func WriteDrain(dir, service string, d Drain) error {
	if err := checkName(service); err != nil {
		return err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, service), append(text, '\n'), 0o644)
}

// RemoveDrain ends a drain; false when there was none.
func RemoveDrain(dir, service string) (bool, error) {
	if err := checkName(service); err != nil {
		return false, err
	}
	err := os.Remove(filepath.Join(dir, service))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func checkName(service string) error {
	if service == "" || strings.HasPrefix(service, ".") || strings.ContainsAny(service, "/\x00") {
		return fmt.Errorf("%q is no name of a local service", service)
	}
	return nil
}

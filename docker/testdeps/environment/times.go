package environment

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta/atomicfile"
)

// times is what is known of how long dependencies take from their start until
// they are ready, latest first. It only says who is started first: a wrong or
// missing one costs some time.
type times []timed

type timed struct {
	Of    string        `json:"of"` // as timeKey has it
	Ready time.Duration `json:"ready"`
}

// remembered is how many are kept.
const remembered = 200

// timesFile is where they are kept, "" where the user has no directory.
func timesFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "paasta", "test-deps-times.json")
}

// loadTimes knows nothing where the file is missing or not ours.
func loadTimes(file string) times {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var t times
	if json.Unmarshal(text, &t) != nil {
		return nil
	}
	return t[:min(len(t), remembered)]
}

// with is t after what was seen now.
func (t times) with(now times) times {
	all := slices.Clone(now)
	for _, old := range t {
		if !slices.ContainsFunc(now, func(n timed) bool { return n.Of == old.Of }) {
			all = append(all, old)
		}
	}
	return all[:min(len(all), remembered)]
}

// save keeps them for the next time, whole or not at all. Two at once may each
// forget what the other saw.
func (t times) save(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(file, text, 0o600)
}

// of is how long a node takes. For one that was never seen it is a guess:
// whoever gives it more time than others knows that it is slow.
func (t times) of(n *graph.Node) time.Duration {
	if at := slices.IndexFunc(t, func(k timed) bool { return k.Of == timeKey(n) }); at >= 0 {
		return t[at].Ready
	}
	return n.Dep.Ready.Timeout / 30
}

// timeKey is what a node's time is remembered by.
func timeKey(n *graph.Node) string {
	if n.Service == nil {
		return "image " + n.Dep.Image
	}
	return "service " + n.Service.Name + "." + n.Instance.Name
}

// startTime is about what a start takes, whatever is started.
const startTime = 300 * time.Millisecond

// urgencies says how long an environment will take at least from each node's
// start on: until it is ready, and all that needs it. gateway is the same for
// the gateway, which all wait for that need others.
func urgencies(nodes []*graph.Node, t times) (of map[*graph.Node]time.Duration, gateway time.Duration) {
	of = map[*graph.Node]time.Duration{}
	after := map[*graph.Node]time.Duration{}   // what is to come once a node is ready
	for _, n := range slices.Backward(nodes) { // those that need it first
		of[n] = startTime + t.of(n) + after[n]
		for _, e := range n.Needs {
			after[e.To] = max(after[e.To], of[n])
		}
		if len(n.Needs) > 0 {
			gateway = max(gateway, of[n])
		}
	}
	return of, gateway
}

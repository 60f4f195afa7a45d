package marathon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
)

// An Agent is one virtual agent, as --agents-config holds it in a JSON list.
// What is left out gets the default of Agents.
type Agent struct {
	Hostname   string            `json:"hostname"` // the "host" of its tasks; its address by default
	Address    string            `json:"address"`  // IPv4, on lo; 10.77.<n>.1 by default
	Attributes map[string]string `json:"attributes"`
	CPUs       float64           `json:"cpus"`
	Mem        float64           `json:"mem"`  // MiB
	Disk       float64           `json:"disk"` // MiB
	PortLow    int               `json:"port_low"`
	PortHigh   int               `json:"port_high"`
}

// Agents fills in the defaults of agents: each has an address 10.77.<n>.1, n
// counting from 1 (127.77.<n>.1 for those who are not root), this machine's CPUs
// but at least 8, 16 GiB of memory and 100 GB of disk, whatever is really there,
// since agents are for spreading and not for rationing, and ports 31000 to 32000.
func Agents(list []Agent) []Agent {
	list = slices.Clone(list)
	for i := range list {
		a := &list[i]
		if a.Address == "" {
			a.Address = fmt.Sprintf("10.77.%d.1", i+1)
			if os.Geteuid() != 0 {
				// Without privileges there are only addresses of 127/8. Docker's
				// proxy accepts there for whom nobody serves, but it is a machine of
				// one's own.
				a.Address = fmt.Sprintf("127.77.%d.1", i+1)
			}
		}
		if a.Hostname == "" {
			a.Hostname = a.Address
		}
		if a.CPUs == 0 {
			a.CPUs = float64(max(runtime.NumCPU(), 8))
		}
		if a.Mem == 0 {
			a.Mem = 16384
		}
		if a.Disk == 0 {
			a.Disk = 100000
		}
		if a.PortLow == 0 {
			a.PortLow = 31000
		}
		if a.PortHigh == 0 {
			a.PortHigh = 32000
		}
	}
	return list
}

// ReadAgents reads a JSON list of agents from a file, and fills in the defaults.
func ReadAgents(file string) ([]Agent, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	var list []Agent
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	list = Agents(list)
	seen := map[string]bool{}
	for i, a := range list {
		_, err := netip.ParseAddr(a.Address)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: agent %d: %w", file, i+1, err)
		case seen[a.Hostname]:
			return nil, fmt.Errorf("%s: agent %d: two agents are called %s", file, i+1, a.Hostname)
		case a.PortLow > a.PortHigh || a.PortLow < 1 || a.PortHigh > 65535:
			return nil, fmt.Errorf("%s: agent %d: ports %d to %d are none", file, i+1, a.PortLow, a.PortHigh)
		}
		seen[a.Hostname] = true
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no agent", file)
	}
	return list, nil
}

func coreAgents(list []Agent) []core.Agent {
	agents := make([]core.Agent, len(list))
	for i, a := range list {
		agents[i] = core.Agent{
			ID: fmt.Sprintf("paasta-S%d", i), Hostname: a.Hostname, Address: a.Address, Attributes: a.Attributes, CPUs: a.CPUs,
			Mem: a.Mem, Disk: a.Disk, PortLow: a.PortLow, PortHigh: a.PortHigh,
		}
		if agents[i].Attributes == nil {
			agents[i].Attributes = map[string]string{}
		}
	}
	return agents
}

// addresses puts the agents' addresses on lo, and takes away those that it put
// there. Which these are is noted in a file, for a process that was killed.
type addresses struct {
	dir string
	log *slog.Logger
}

func (a addresses) file() string { return filepath.Join(a.dir, "addresses") }

func (a addresses) noted() []string {
	text, err := os.ReadFile(a.file())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("read the note of addresses failed", "err", err)
	}
	return strings.Fields(string(text))
}

func (a addresses) note(list []string) error {
	return os.WriteFile(a.file(), []byte(strings.Join(list, "\n")+"\n"), 0o600)
}

func (a addresses) add(ctx context.Context, agents []Agent) error {
	ours := a.noted()
	for _, x := range agents {
		if strings.HasPrefix(x.Address, "127.") {
			continue // the whole net is there anyway
		}
		out, err := ip(ctx, "addr", "add", x.Address+"/32", "dev", "lo")
		switch {
		case err == nil:
			if !slices.Contains(ours, x.Address) {
				ours = append(ours, x.Address)
			}
		case strings.Contains(out, "File exists"), strings.Contains(out, "already assigned"):
		case os.Geteuid() != 0:
			// It may be an address of this machine that somebody else set up.
			a.log.Warn("add the agent's address failed, its tasks need it", "address", x.Address, "err", strings.TrimSpace(out))
		default:
			return fmt.Errorf("add the address %s of an agent to lo: %w: %s", x.Address, err, strings.TrimSpace(out))
		}
	}
	if len(ours) == 0 {
		return nil
	}
	return a.note(ours)
}

// remove takes our addresses away, but for those of tasks that go on.
func (a addresses) remove(ctx context.Context, tasks []core.TaskView) {
	if len(tasks) > 0 {
		return
	}
	for _, address := range a.noted() {
		if out, err := ip(ctx, "addr", "del", address+"/32", "dev", "lo"); err != nil {
			a.log.Warn("remove the agent's address failed", "address", address, "err", strings.TrimSpace(out))
		}
	}
	if err := os.Remove(a.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("remove the note of addresses failed", "err", err)
	}
}

func ip(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	return string(out), err
}

//go:build linux

package playground

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/command"
)

// Cluster is the name of a playground's only cluster.
const Cluster = "playground"

// Ports of a playground, the same inside and, at Address, on the host.
const (
	PortAPI       = 5054
	PortZooKeeper = 2181
	PortMarathon  = 8080
	PortRegistry  = 5000
)

// Link is the address of HAProxy's frontends inside.
const Link = "169.254.255.254"

// runtimeRoot holds what needs short paths: Unix sockets.
const runtimeRoot = "/run"

// A Playground is what stands in DIR/playground.json, from the first step of Up
// to the last of Down.
type Playground struct {
	Dir     string `json:"dir"`     // absolute
	Name    string `json:"name"`    // of namespace, cgroup, links and runtime directory
	Address string `json:"address"` // on the host's loopback, and the same one inside
	Subnet  string `json:"subnet"`  // of the link to the host, a /30; "" for none
	Agents  int    `json:"agents"`
	Binary  string `json:"binary"` // the paasta that its daemons run

	// Host is the network namespace that it forwards to, by inode: playgrounds
	// in different ones, as those of tests, share no ports.
	Host uint64 `json:"host"`

	// What Up found on the host, for Down to put back.
	SetForwarding bool `json:"set_forwarding,omitempty"`  // ip_forward was 0
	MadeDockerKey bool `json:"made_docker_key,omitempty"` // /etc/docker/key.json was not there
}

// ErrNone says that a directory is no playground.
var ErrNone = errors.New("no playground")

// Open reads the playground in dir. Without one the error is ErrNone.
func Open(dir string) (*Playground, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "playground.json"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, command.WithHint(fmt.Errorf("%s: %w", dir, ErrNone), "paasta playground up --dir "+dir)
	} else if err != nil {
		return nil, err
	}
	p := new(Playground)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "playground.json"), err)
	}
	if p.Dir != dir || p.Name != nameOf(dir) {
		return nil, fmt.Errorf("%s was made as %s: a playground cannot be moved", dir, p.Dir)
	}
	return p, nil
}

// nameOf derives a playground's name from its directory. The kernel allows 15
// characters for a link.
func nameOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "paasta-" + hex.EncodeToString(sum[:3])
}

// NeedRoot is an error unless this process is root's. doing says what needs it,
// again is the command to try as root.
func NeedRoot(doing, again string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	// sudo has a PATH and settings of its own.
	return command.WithHint(errors.New(doing+" needs root"), `sudo env "PATH=$PATH" `+again)
}

func (p *Playground) save() error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return atomicfile.Write(p.path("playground.json"), append(text, '\n'), 0o644)
}

// path joins names to the playground's directory.
func (p *Playground) path(names ...string) string {
	return filepath.Join(append([]string{p.Dir}, names...)...)
}

// runtime joins names to the directory for sockets.
func (p *Playground) runtime(names ...string) string {
	return filepath.Join(append([]string{runtimeRoot, p.Name}, names...)...)
}

// SoaDir is the playground's soa-configs.
func (p *Playground) SoaDir() string { return p.path("soa-configs") }

// GitDir is where the bare repositories of its services are.
func (p *Playground) GitDir() string { return p.path("git") }

// DockerHost is the address of its Docker engine.
func (p *Playground) DockerHost() string { return "unix://" + p.runtime("docker.sock") }

// at returns the playground's address with a port.
func (p *Playground) at(port int) string { return fmt.Sprintf("%s:%d", p.Address, port) }

// Registry is where images are pushed to, inside and on the host alike.
func (p *Playground) Registry() string { return p.at(PortRegistry) }

// lock takes the lock of a playground's directory for one command.
func lock(dir string) (unlock func(), err error) {
	unlock, err = lockDir(dir)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, command.WithHint(fmt.Errorf("another command is at work on the playground in %s", dir), "the same again once that is done")
	}
	return unlock, err
}

// lockDir takes the lock of a directory, which has to exist, until unlock is
// called or the process ends. When another holds it, it fails at once with
// EWOULDBLOCK.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

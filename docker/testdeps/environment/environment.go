package environment

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/gopaasta/paasta/docker/testdeps/gateway"
)

// An Environment is one set of test dependencies on an engine.
type Environment struct {
	Name         string       `json:"name"`
	Service      string       `json:"service"`
	Dir          string       `json:"dir"`
	Subnet       string       `json:"subnet"`
	Created      time.Time    `json:"created"`
	Until        time.Time    `json:"until"` // when the next up may remove it
	Dependencies []Dependency `json:"dependencies"`
	Notes        []string     `json:"notes,omitempty"`

	engine      *Engine
	id          string
	owner       string
	tied        bool
	complete    bool // up got to its end
	network     string
	containers  []string // all, by id
	gateway     string
	gatewayRuns bool
	asker       *asker // of who made it; nil for others
	host        string // where published ports are; "" for the engine's
	leave       func() // ends what hands ports through; nil when nothing does
}

// A Dependency is one container of an environment.
type Dependency struct {
	Name      string   `json:"name"`
	Called    []string `json:"called,omitempty"` // how the service itself calls it; none when only other dependencies need it
	Image     string   `json:"image"`
	Container string   `json:"container"`
	State     string   `json:"state"` // as Docker has it: created, running, exited, …
	Status    string   `json:"status"`
	Port      int      `json:"port,omitempty"`      // inside
	HostPort  int      `json:"host_port,omitempty"` // on the host's loopback; 0 when it is not published

	scheme string
}

// Ready tells whether all of it was started and runs.
func (x *Environment) Ready() bool {
	return x.complete && x.gatewayRuns && !slices.ContainsFunc(x.Dependencies, func(d Dependency) bool { return d.State != "running" })
}

// Variables are KEY=VALUE for a process on the host, sorted: for each of the
// service's own dependencies that has a port NAME_HOST, NAME_PORT and NAME_URL.
func (x *Environment) Variables() []string {
	host := cmp.Or(x.host, x.engine.docker.Host())
	var all []string
	for _, d := range x.Dependencies {
		for _, name := range d.Called {
			if d.HostPort != 0 {
				all = append(all, variables(name, d.scheme, host, d.HostPort)...)
			}
		}
	}
	all = append(all, "PAASTA_TEST_DEPS="+x.Name)
	slices.Sort(all)
	return all
}

// inside is the same for a container of the environment.
func (x *Environment) inside() []string {
	var all []string
	for _, d := range x.Dependencies {
		for _, name := range d.Called {
			if d.Port != 0 {
				all = append(all, variables(name, d.scheme, name, d.Port)...)
			}
		}
	}
	all = append(all, "PAASTA_TEST_DEPS="+x.Name)
	slices.Sort(all)
	return all
}

// Prefix is what the variables of a dependency begin with.
func Prefix(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// variables tells a process where a dependency is.
func variables(name, scheme, host string, port int) []string {
	prefix := Prefix(name)
	at := net.JoinHostPort(host, strconv.Itoa(port))
	return []string{prefix + "_HOST=" + host, prefix + "_PORT=" + strconv.Itoa(port), prefix + "_URL=" + scheme + "://" + at}
}

// Refused lists the calls to what the caller had not declared.
func (x *Environment) Refused(ctx context.Context) ([]gateway.Refused, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	a := x.asker
	if a == nil {
		var err error
		if a, err = x.engine.attach(ctx, x.gateway); err != nil {
			return nil, explain(err)
		}
		defer a.close()
	}
	answer, err := a.ask(ctx, gateway.Question{})
	return answer.Refused, err
}

// Logs writes the last lines of a dependency's log to w (all for a negative
// number), and with follow what comes after, until it or ctx ends.
func (x *Environment) Logs(ctx context.Context, dependency string, lines int, follow bool, w io.Writer) error {
	id := x.gateway
	if dependency != gatewayName {
		at := slices.IndexFunc(x.Dependencies, func(d Dependency) bool { return d.Name == dependency || slices.Contains(d.Called, dependency) })
		if at < 0 {
			var known []string
			for _, d := range x.Dependencies {
				known = append(known, d.Name)
			}
			return fmt.Errorf("%s has no dependency %q (known: %s, %s)", x.Name, dependency, strings.Join(known, ", "), gatewayName)
		}
		id = x.Dependencies[at].Container
	}
	return x.engine.logs(ctx, id, lines, follow, w)
}

func (e *Engine) logs(ctx context.Context, id string, lines int, follow bool, w io.Writer) error {
	reading := ctx
	if !follow {
		var cancel context.CancelFunc
		reading, cancel = context.WithTimeout(ctx, call)
		defer cancel()
	}
	tail := "all"
	if lines >= 0 {
		tail = strconv.Itoa(lines)
	}
	r, err := e.docker.ContainerLogs(reading, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: tail})
	if err != nil {
		return explain(err)
	}
	defer r.Close()
	_, err = stdcopy.StdCopy(w, w, r)
	if ctx.Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return explain(err)
}

// lastLines is the end of a container's log, for a failure's message.
func (e *Engine) lastLines(ctx context.Context, id string, n int) []string {
	ctx, cancel := within(ctx, 10*time.Second)
	defer cancel()
	var b bytes.Buffer
	if err := e.logs(ctx, id, n, false, &b); err != nil {
		return []string{"(its log cannot be read: " + err.Error() + ")"}
	}
	var lines []string
	for s := bufio.NewScanner(&b); s.Scan(); {
		lines = append(lines, s.Text()[:min(len(s.Text()), 500)])
	}
	return lines[max(0, len(lines)-n):]
}

// gatewayName cannot be that of a dependency.
const gatewayName = "_gateway"

// containerName is what a part of an environment is called on the engine.
func containerName(environment, part string) string {
	return "paasta-test-deps-" + environment + "-" + cmp.Or(part, "x")
}

// Package probe runs the health and readiness checks of running tasks and says
// what they find.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/internal/core"
	"github.com/gopaasta/paasta/docker/marathon/internal/definition"
	"github.com/gopaasta/paasta/paasta/healthcheck"
)

// Options is what a Prober is made of. Every field is required.
type Options struct {
	// Exec runs a COMMAND check where its task is. An error that wraps ErrUnknown
	// says nothing about the task.
	Exec      func(ctx context.Context, t core.Task, command string) error
	Result    func(core.Result)
	Readiness func(core.Readiness)
}

// A Prober runs checks.
type Prober struct {
	o     Options
	mu    sync.Mutex
	tasks map[string]context.CancelFunc
	work  sync.WaitGroup
	slots chan struct{} // bounds how many checks run at once
	http  *http.Client
}

// New returns a prober without tasks.
func New(o Options) *Prober {
	return &Prober{
		o: o, tasks: map[string]context.CancelFunc{}, slots: make(chan struct{}, 256),
		http: healthcheck.Client(nil),
	}
}

// Watch runs the checks of a task until Forget or the end of ctx. A task that
// is watched already goes on as it is.
func (p *Prober) Watch(ctx context.Context, t core.Task) {
	if len(t.App.HealthChecks) == 0 && (t.Ready || len(t.App.ReadinessChecks) == 0) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tasks[t.ID] != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	p.tasks[t.ID] = cancel
	for i, h := range t.App.HealthChecks {
		p.work.Go(func() { p.health(ctx, t, i, h) })
	}
	if !t.Ready && len(t.App.ReadinessChecks) > 0 {
		p.work.Go(func() { p.ready(ctx, t, t.App.ReadinessChecks[0]) })
	}
}

// Forget ends the checks of a task.
func (p *Prober) Forget(taskID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel := p.tasks[taskID]; cancel != nil {
		cancel()
		delete(p.tasks, taskID)
	}
}

// Wait waits until no check runs any more, which is soon after the context of
// Watch has ended.
func (p *Prober) Wait() { p.work.Wait() }

// The first probes come fast, since a failure before the first success counts
// only after the grace period: a task is seen healthy as soon as it is.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// longest bounds a check that names no limit.
const longest = 5 * time.Minute

// health runs one health check of one task.
func (p *Prober) health(ctx context.Context, t core.Task, i int, h definition.HealthCheck) {
	interval := max(time.Duration(h.IntervalSeconds)*time.Second, lastPause) // 0 is allowed
	// Marathon's default of 15 s is not waited for: nobody wrote it.
	if h.Mesos() && h.DelaySeconds != 15 && !sleep(ctx, time.Until(t.StartedAt.Add(time.Duration(h.DelaySeconds)*time.Second))) {
		return
	}
	patience := max(time.Duration(h.GracePeriodSeconds)*time.Second, min(interval, 5*time.Second))
	eager := t.StartedAt.Add(patience)
	passed := false
	for pause := firstPause; !passed && time.Now().Before(eager); pause = min(pause*3/2, lastPause, interval) {
		if passed = p.once(ctx, t, h) == nil; passed {
			p.o.Result(core.Result{TaskID: t.ID, Index: i, OK: true})
		} else if !sleep(ctx, pause) {
			return
		}
	}
	// Out of patience, or adopted after a restart: a failure is told at once, not an
	// interval later.
	for wait := passed; ; wait = true {
		// Spread, so that the tasks of one app are not checked in one instant.
		if wait && !sleep(ctx, interval-time.Duration(rand.Int64N(int64(interval)/10+1))) {
			return
		}
		err := p.once(ctx, t, h)
		if ctx.Err() != nil {
			return
		}
		switch {
		case errors.Is(err, ErrUnknown):
		case err == nil:
			p.o.Result(core.Result{TaskID: t.ID, Index: i, OK: true})
		default:
			p.o.Result(core.Result{TaskID: t.ID, Index: i, Cause: err.Error()})
		}
	}
}

// ErrUnknown says that a check found out nothing about its task.
var ErrUnknown = errors.New("nothing is known")

func (p *Prober) once(ctx context.Context, t core.Task, h definition.HealthCheck) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	timeout := time.Duration(h.TimeoutSeconds) * time.Second
	if timeout == 0 { // for Mesos, and Marathon's TCP checks, no limit
		timeout = longest
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if h.Protocol == "COMMAND" {
		err := p.o.Exec(ctx, t, h.Command.Value)
		if ctx.Err() != nil && !errors.Is(err, ErrUnknown) {
			return fmt.Errorf("Command timed out after %v", timeout) //nolint:staticcheck // Mesos' words
		}
		return err
	}
	address, ok := target(t, h.PortIndex, h.Port)
	if !ok {
		return errors.New("the check names a port that the task does not have")
	}
	switch h.Protocol {
	case "TCP", "MESOS_TCP":
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	case "HTTPS", "MESOS_HTTPS":
		return p.get(ctx, "https://"+address+slashed(h.Path), h.IgnoreHTTP1xx != nil && *h.IgnoreHTTP1xx)
	default:
		return p.get(ctx, "http://"+address+slashed(h.Path), h.IgnoreHTTP1xx != nil && *h.IgnoreHTTP1xx)
	}
}

func slashed(path string) string { return "/" + strings.TrimPrefix(path, "/") }

func (p *Prober) get(ctx context.Context, url string, ignore1xx bool) error {
	informational := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { informational = true; return nil },
	})
	resp, err := p.fetch(ctx, url)
	if err != nil {
		if informational && ignore1xx {
			return ErrUnknown
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 && ignore1xx {
		return ErrUnknown
	}
	return healthcheck.Judge(resp)
}

func (p *Prober) fetch(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "paasta-marathon")
	return p.http.Do(req)
}

// target returns the address of a task's port: the host port on its agent's
// address, or, where there is none, the port in the container.
func target(t core.Task, index, port *int) (string, bool) {
	join := func(host string, port int) (string, bool) {
		return net.JoinHostPort(host, strconv.Itoa(port)), port != 0 && host != ""
	}
	mappings := t.App.Mappings()
	if port != nil {
		if t.App.Mode() == "host" {
			return join(t.Address, *port)
		}
		// It is a port of the container, as Mesos' executor sees it.
		for i, m := range mappings {
			if m.ContainerPort == *port && t.Slots[i] != 0 {
				return join(t.Address, t.Slots[i])
			}
		}
		return join(t.IP, *port)
	}
	i := 0
	if index != nil {
		i = *index
	}
	if i >= len(t.Slots) {
		return "", false
	}
	if t.Slots[i] != 0 {
		return join(t.Address, t.Slots[i])
	}
	return join(t.IP, mappings[i].ContainerPort)
}

// ready runs a readiness check until it passes.
func (p *Prober) ready(ctx context.Context, t core.Task, r definition.ReadinessCheck) {
	index := 0
	for i := range t.App.NumPorts() {
		if t.App.PortName(i) == r.PortName {
			index = i
		}
	}
	address, ok := target(t, &index, nil)
	if !ok {
		return
	}
	interval := time.Duration(r.IntervalSeconds) * time.Second
	for pause := firstPause; ; pause = min(pause*2, interval) {
		found := core.Readiness{TaskID: t.ID}
		within, cancel := context.WithTimeout(ctx, time.Duration(r.TimeoutSeconds)*time.Second)
		resp, err := p.fetch(within, strings.ToLower(r.Protocol)+"://"+address+slashed(r.Path))
		if err == nil {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what came of it
			resp.Body.Close()
			found.Status, found.ContentType, found.Body = resp.StatusCode, resp.Header.Get("Content-Type"), string(body)
			found.Ready = slices.Contains(r.HTTPStatusCodesForReady, resp.StatusCode)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.o.Readiness(found)
		if found.Ready || !sleep(ctx, pause) {
			return
		}
	}
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

package localrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/healthcheck"
	"github.com/gopaasta/paasta/paasta/marathon"
)

// ErrUnhealthy says that a container's health check failed as often as makes
// Marathon kill a task.
var ErrUnhealthy = errors.New("the health check failed")

// A probe runs a health check once. It returns what it saw, e.g. "200 OK".
type probe func(ctx context.Context) (saw string, err error)

// While a container starts it is asked more often than every interval: a
// failure does not count then, and nobody wants to wait.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// await runs a check as Marathon does until it passes. Failures within the
// grace period do not count; after it, the check is ErrUnhealthy when as many
// as Marathon kills a task for come in a row.
func await(ctx context.Context, c marathon.HealthCheck, what string, ask probe, say func(string, ...any)) error {
	grace := time.Duration(c.GracePeriodSeconds) * time.Second
	interval := time.Duration(max(1, c.IntervalSeconds)) * time.Second
	limit := max(1, c.MaxConsecutiveFailures)
	say("Starting health check %s (waiting %d seconds before considering failures due to grace period)", what, c.GracePeriodSeconds)
	started := time.Now()
	said := ""
	pause := firstPause
	for failures := 0; ; {
		within, cancel := context.WithTimeout(ctx, time.Duration(max(1, c.TimeoutSeconds))*time.Second)
		saw, err := ask(within)
		late := within.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			say("Healthcheck succeeded!: %s", saw)
			return nil
		}
		text := err.Error()
		if late {
			text = fmt.Sprintf("no answer within %d seconds", c.TimeoutSeconds)
		}
		early := time.Since(started) < grace
		if early {
			text += " (disregarded due to grace period)"
		} else {
			failures++
			text += fmt.Sprintf(" (%d of %d)", failures, limit)
		}
		if text != said { // what changes is worth a line
			say("Healthcheck failed!: %s", text)
			said = text
		}
		if failures >= limit {
			return ErrUnhealthy
		}
		wait := interval
		if early {
			wait, pause = min(pause, interval), min(pause*3/2, lastPause)
			wait = min(wait, max(time.Millisecond, grace-time.Since(started)))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// A dialer connects to a container.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// over returns the probe of a check and how to call it. address is where the
// container's port is, shown is the same for people.
func (e *Engine) over(c marathon.HealthCheck, id, address, shown string, dial dialer) (ask probe, what string) {
	patience := hangUpWithin
	if address == shown { // of a port that the engine publishes: Docker's own proxy may accept for it
		patience *= 10
	}
	switch c.Protocol {
	case "COMMAND":
		return func(ctx context.Context) (string, error) { return e.command(ctx, id, c.Command.Value) },
			"by command: " + c.Command.Value
	case "TCP":
		return func(ctx context.Context) (string, error) { return connect(ctx, dial, address, patience) },
			"via tcp://" + shown
	}
	scheme := strings.ToLower(strings.TrimPrefix(c.Protocol, "MESOS_"))
	path := "/" + strings.TrimPrefix(c.Path, "/")
	h := healthcheck.Client(dial)
	return func(ctx context.Context) (string, error) { return get(ctx, h, scheme+"://"+address+path) },
		"via " + scheme + "://" + shown + path
}

func get(ctx context.Context, h *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := h.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := healthcheck.Judge(resp); err != nil {
		return "", err
	}
	if types := resp.Header.Values("Content-Type"); len(types) > 1 {
		return "", fmt.Errorf("%s, with %d Content-Type headers: Mesos takes that for a failure", resp.Status, len(types))
	}
	return resp.Status, nil
}

// hangUpWithin is how soon a service hangs up that does not want to serve.
const hangUpWithin = 100 * time.Millisecond

// connect passes when somebody accepts and stays. Docker's own proxy accepts
// for a container that does not, and hangs up.
func connect(ctx context.Context, dial dialer, address string, patience time.Duration) (string, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		return "", fmt.Errorf("%s accepts and hangs up (%w)", address, err)
	}
	return "connected", nil
}

// command passes when a shell command in the container ends with status 0.
func (e *Engine) command(ctx context.Context, id, command string) (string, error) {
	status, said, err := e.docker.Exec(ctx, id, "/bin/sh", "-c", command)
	said = said[:min(len(said), 200)]
	if err != nil {
		return "", err
	}
	if status != 0 {
		return "", fmt.Errorf("command exited with status %d %s", status, said)
	}
	return "command exited with status 0 " + said, nil
}

package smartstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/nerve"
)

// waitFlags are those of a command that can wait for what it asked for, as
// updown_service did.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (f *waitFlags) add(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.wait, "wait", "w", false, "return when it is done")
	flags.DurationVar(&f.timeout, "timeout", 0, "wait for so long at most (default: updown_timeout_s of its registrations)")
}

func (f *waitFlags) check() error {
	switch {
	case f.timeout < 0:
		return command.UsageError{Err: errors.New("--timeout: want a time to come, such as 5m")}
	case f.timeout > 0 && !f.wait:
		return command.UsageError{Err: errors.New("--timeout without --wait")}
	}
	return nil
}

// A condition looks at a service of this host, and says what it still waits
// for, "" for nothing. namespaces are those of its registrations that
// soa-configs have.
type condition func(ctx context.Context, agent string, s nerve.Status, namespaces map[string]soaconfig.Namespace) (pending string, err error)

// run waits until the condition is true of the service.
func (f *waitFlags) run(ctx context.Context, w Wiring, io command.IO, service string, met condition) error {
	if !f.wait {
		return nil
	}
	c, err := w.Config()
	if err != nil {
		return err
	}
	agent := "http://" + c.Smartstack.Listen
	begin := time.Now()
	var namespaces map[string]soaconfig.Namespace // nil until the agent has named the registrations
	timeout := f.timeout
	printed := ""
	for {
		s, err := localService(ctx, agent, service)
		if err != nil {
			return err
		}
		if namespaces == nil {
			namespaces = namespacesOf(ctx, c, s.Registrations)
			timeout = cmp.Or(timeout, updownTimeout(namespaces))
		}
		pending, err := met(ctx, agent, s, namespaces)
		if err != nil {
			return err
		}
		if pending == "" {
			fmt.Fprintf(io.Err, "done after %s\n", time.Since(begin).Round(100*time.Millisecond))
			return nil
		}
		if time.Since(begin) > timeout {
			return fmt.Errorf("wait for %s: after %s still %s", service, timeout, pending)
		}
		if what, _, _ := strings.Cut(pending, ":"); what != printed {
			fmt.Fprintf(io.Err, "waiting up to %s: %s\n", timeout, pending)
			printed = what
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// localService asks the agent for a service of this host.
func localService(ctx context.Context, agent, service string) (nerve.Status, error) {
	var all LocalServices
	if err := getJSON(ctx, agent+"/v1/services", &all); err != nil {
		return nerve.Status{}, err
	}
	for _, s := range all.Services {
		if s.Service == service {
			return s, nil
		}
	}
	return nerve.Status{}, command.WithHint(fmt.Errorf("the agent has no service %q", service), "paasta smartstack services --check")
}

// namespacesOf returns the namespaces of registrations; without soa-configs
// none.
func namespacesOf(ctx context.Context, c sysconfig.Config, registrations []string) map[string]soaconfig.Namespace {
	all := map[string]soaconfig.Namespace{}
	tree, err := soaconfig.Load(ctx, c.SoaDir, soaconfig.Options{})
	if err != nil {
		return all // the agent says so; we do with defaults
	}
	for _, r := range registrations {
		service, name, _ := strings.Cut(r, ".")
		if s := tree.Services[service]; s != nil {
			if ns, ok := s.Namespaces.Valid[name]; ok {
				all[r] = ns
			}
		}
	}
	return all
}

// updownTimeout is the longest updown_timeout_s, or its default.
func updownTimeout(namespaces map[string]soaconfig.Namespace) time.Duration {
	longest := time.Duration(0)
	for _, ns := range namespaces {
		longest = max(longest, ns.UpdownTimeout)
	}
	return cmp.Or(longest, 300*time.Second)
}

// drainedFor returns a condition that is met when the service has been drained for
// grace: so long it takes until hosts that run the original synapse, which say
// nothing of themselves, send nothing there any more.
func drainedFor(grace time.Duration) condition {
	var since time.Time
	return func(ctx context.Context, agent string, s nerve.Status, namespaces map[string]soaconfig.Namespace) (string, error) {
		pending, err := outOfProxies(ctx, agent, s)
		switch {
		case err != nil:
			return "", err
		case pending != "":
			since = time.Time{}
			return pending, nil
		case since.IsZero():
			since = time.Now()
		}
		if left := grace - time.Since(since); left > 0 {
			return fmt.Sprintf("for hosts with synapse to see it: %s left", left.Round(100*time.Millisecond)), nil
		}
		return connectionsEnded(ctx, agent, s)
	}
}

// outOfProxies says why the agents' proxies may still send requests to the service, as far
// as this host's tells; "" when they do not.
func outOfProxies(ctx context.Context, agent string, s nerve.Status) (string, error) {
	if s.Up && s.Weight != 0 || s.Pending {
		return "to be out of the registry", nil
	}
	for _, r := range s.Registrations {
		b, served, err := proxied(ctx, agent, r, s.Address)
		if err != nil {
			return "", err
		}
		if served && b != nil && (b.Weight != 0 || b.Up) {
			return "to leave HAProxy: " + r, nil
		}
	}
	return "", nil
}

// connectionsEnded says which connections to the service are left, from whichever host.
func connectionsEnded(ctx context.Context, agent string, s nerve.Status) (string, error) {
	open, err := connections(ctx, agent, s.Address)
	switch {
	case err != nil:
		return "", err
	case open > 0:
		return fmt.Sprintf("for its connections to end: %d are open", open), nil
	}
	return "", nil
}

// connections counts the open ones to a service of this host, whose address may
// have a name: then to each address of that.
func connections(ctx context.Context, agent, at string) (int, error) {
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return 0, fmt.Errorf("count connections: %w", err)
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host) // an address is its own answer
	if err != nil {
		return 0, fmt.Errorf("count connections to %s: %w", at, err)
	}
	total := 0
	for _, addr := range addrs {
		var open paasta.AgentConnections
		query := url.Values{"host": {addr}, "port": {port}}
		if err := getJSON(ctx, agent+"/v1/connections?"+query.Encode(), &open); err != nil {
			return 0, err
		}
		total += open.Connections
	}
	return total, nil
}

// takesTraffic is met when the service is up in the proxy of this host.
func takesTraffic(ctx context.Context, agent string, s nerve.Status, namespaces map[string]soaconfig.Namespace) (string, error) {
	switch {
	case !s.Up:
		return "for its checks: " + s.Why, nil
	case s.Weight == 0:
		return "to be registered with a weight", nil
	}
	for _, r := range s.Registrations {
		b, served, err := proxied(ctx, agent, r, s.Address)
		if err != nil {
			return "", err
		}
		// An agent that has just started serves nothing yet.
		served = served || namespaces[r].ProxyPort != nil
		if served && (b == nil || b.Weight == 0 || !b.Up) {
			return "to be up in HAProxy: " + r, nil
		}
	}
	return "", nil
}

// sameAddress tells whether a backend is at an address, which may be by name or
// of IPv6, in brackets.
func sameAddress(b paasta.AgentBackend, at string) bool {
	return net.JoinHostPort(b.Host, strconv.Itoa(b.Port)) == at || strings.HasSuffix(b.Name, "_"+at)
}

// proxied returns what HAProxy on this host has of a registration at an
// address; nil for nothing. served is false when the registration has no proxy
// here.
func proxied(ctx context.Context, agent, registration, at string) (b *paasta.AgentBackend, served bool, err error) {
	var answer paasta.AgentBackends
	if err := getJSON(ctx, agent+"/v1/backends/"+url.PathEscape(registration), &answer); errors.Is(err, errAbsent) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	for _, b := range answer.Backends {
		if sameAddress(b, at) {
			return &b, true, nil
		}
	}
	return nil, true, nil
}

package smartstack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
)

// statusCommand shows what /status says, for a person on the host.
func statusCommand(w Wiring) command.Command {
	var asJSON bool
	return command.Command{
		Use:   "status [REGISTRATION] [--json]",
		Short: "Show what the agent of this host serves, and what is wrong",
		Long: `Show, from the agent that runs on this host: ZooKeeper, HAProxy and its reloads, each
registration with its servers by state and the age of what the registry said, and
every problem. With REGISTRATION, also its servers. Exits 3 if something is wrong that callers may notice.`,
		Example: `  paasta smartstack status
  paasta smartstack status hello.main
  paasta smartstack status --json | jq .haproxy`,
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&asJSON, "json", false, "print JSON, as GET /status and GET /v1/backends have it")
		},
		Run: func(ctx context.Context, io command.IO, args []string) error {
			if len(args) > 1 {
				return command.UsageError{Err: errors.New("want one REGISTRATION, or none for all")}
			}
			c, err := w.Config()
			if err != nil {
				return err
			}
			base := "http://" + c.Smartstack.Listen
			if len(args) == 1 {
				return showRegistration(ctx, io, base, args[0], asJSON)
			}
			if asJSON {
				return copyJSON(ctx, io.Out, base+"/status")
			}
			var s agentStatus
			if err := getJSON(ctx, base+"/status", &s); err != nil {
				return err
			}
			return printStatus(io.Out, s, time.Now())
		},
	}
}

// agentStatus is the answer to GET /status.
type agentStatus struct {
	agent.Status
	ZooKeeper *bool `json:"zookeeper_connected"` // nil when it has no session
}

// serves tells whether a registration's only problem is that it has no servers,
// as that of what has never been deployed.
func (s agentStatus) serves(name string) bool {
	return slices.ContainsFunc(s.Registrations, func(r agent.RegistrationStatus) bool {
		return r.Name == name && r.Nothing != "" && r.Nothing == s.Problems[name]
	})
}

func copyJSON(ctx context.Context, out io.Writer, url string) error {
	var all json.RawMessage
	if err := getJSON(ctx, url, &all); err != nil {
		return err
	}
	return command.WriteJSON(out, all)
}

// printStatus prints everything; the error is ErrNotHealthy if something is
// wrong that callers may notice.
func printStatus(out io.Writer, s agentStatus, now time.Time) error {
	healthy := true
	bad := func(format string, args ...any) {
		healthy = false
		fmt.Fprintf(out, format+"\n", args...)
	}
	switch {
	case s.ZooKeeper == nil:
	case *s.ZooKeeper:
		fmt.Fprintln(out, "ZooKeeper: connected")
	default:
		bad("ZooKeeper: not connected; what was there last is served on")
	}
	h := s.HAProxy
	switch {
	case h.PID != 0:
		fmt.Fprintf(out, "HAProxy: process %d, %s since the agent started%s\n", h.PID, count(h.Reloads, "reload"), lastReload(h, now))
	case len(s.Registrations) > 0:
		bad("HAProxy: does not run")
	default:
		fmt.Fprintln(out, "HAProxy: does not run, there is nothing to serve")
	}
	if h.PID != 0 && !h.DynamicServers {
		fmt.Fprintln(out, "HAProxy: takes no servers at run time: every change is a reload; version 2.6 or later does")
	}
	if h.PID != 0 && h.MaxConn != 0 && h.MaxConn < h.MaxConnWanted {
		fmt.Fprintf(out, "HAProxy: takes %d connections, not the %d of smartstack.maxconn: it may not open enough files; raise LimitNOFILE of the agent's unit\n", h.MaxConn, h.MaxConnWanted)
	}
	if n := len(h.Processes) - 1; n > 0 {
		fmt.Fprintf(out, "HAProxy: old connections are finished by %s\n", count(n, "old process"))
	}
	if len(h.ReloadWanted) > 0 {
		fmt.Fprintf(out, "HAProxy: a reload is due: %s\n", strings.Join(h.ReloadWanted, "; "))
	}
	if h.ReloadError != "" {
		bad("HAProxy: the last reload failed: %s", h.ReloadError)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Problems)) {
		if s.serves(name) {
			fmt.Fprintf(out, "%s: %s\n", name, s.Problems[name])
			continue
		}
		bad("%s: %s", name, s.Problems[name])
	}
	if len(s.Registrations) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "REGISTRATION\tPORT\tUP\tDOWN\tDRAIN\tPROBING\tELSEWHERE\tREAD")
		for _, r := range s.Registrations {
			n := r.States
			port := "-"
			if r.Port != 0 {
				port = strconv.Itoa(r.Port)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Name, port, n["up"], n["down"], n["drain"]+n["maint"], n["probing"], n["elsewhere"], readAge(r))
		}
		_ = w.Flush() // to stdout: whoever closed it knows
	}
	for _, r := range s.Registrations {
		if !printNotes(out, r, now) {
			healthy = false
		}
	}
	if !healthy {
		return command.ErrNotHealthy
	}
	return nil
}

// printNotes prints what is not usual about a registration, and tells whether
// callers need not care.
func printNotes(out io.Writer, r agent.RegistrationStatus, now time.Time) (healthy bool) {
	healthy = true
	bad := func(format string, args ...any) {
		healthy = false
		fmt.Fprintf(out, r.Name+": "+format+"\n", args...)
	}
	if r.Error != "" {
		bad("the registry does not answer: %s", r.Error)
	}
	if r.Held > 0 {
		left := ""
		if !r.HeldUntil.IsZero() {
			left = fmt.Sprintf("; %s left until some may go", max(r.HeldUntil.Sub(now), 0).Round(time.Second))
		}
		bad("%s kept that the registry does not name, the first since %s: %s%s", count(r.Held, "server"), r.HeldSince.UTC().Format(time.RFC3339), r.Why, left)
	}
	if servers := r.States["down"] + r.States["probing"]; servers > 0 && r.States["up"] == 0 {
		bad("no server is up")
	}
	for _, path := range slices.Sorted(maps.Keys(r.Bad)) {
		fmt.Fprintf(out, "%s: left out %s: %s\n", r.Name, path, r.Bad[path])
	}
	for _, words := range slices.Sorted(maps.Keys(r.Ignored)) {
		n, entries := r.Ignored[words], "entries"
		if n == 1 {
			entries = "entry"
		}
		fmt.Fprintf(out, "%s: left out of haproxy_server_options of %d %s: %s\n", r.Name, n, entries, words)
	}
	for _, host := range slices.Sorted(maps.Keys(r.Hosts)) {
		if known := r.Hosts[host]; known.Error != "" && known.Addr != "" {
			fmt.Fprintf(out, "%s: host %s stays at %s: %s\n", r.Name, host, known.Addr, known.Error)
		}
	}
	return healthy
}

// showRegistration prints one registration and its servers.
func showRegistration(ctx context.Context, io command.IO, base, name string, asJSON bool) error {
	page := base + "/v1/backends/" + url.PathEscape(name)
	if asJSON {
		return copyJSON(ctx, io.Out, page)
	}
	var s agentStatus
	if err := getJSON(ctx, base+"/status", &s); err != nil {
		return err
	}
	i := slices.IndexFunc(s.Registrations, func(r agent.RegistrationStatus) bool { return r.Name == name })
	if i < 0 {
		if problem, ok := s.Problems[name]; ok {
			return fmt.Errorf("%s is not served: %s", name, problem)
		}
		return command.WithHint(fmt.Errorf("this host does not serve %q", name), "paasta smartstack status")
	}
	var answer paasta.AgentBackends
	if err := getJSON(ctx, page, &answer); err != nil {
		return err
	}
	r := s.Registrations[i]
	fmt.Fprintf(io.Out, "%s: version %d of the registry, read %s; HAProxy has %d\n", name, r.Version, readAge(r), r.Applied)
	healthy := true
	if problem, ok := s.Problems[name]; ok {
		healthy = s.serves(name)
		fmt.Fprintf(io.Out, "%s: %s\n", name, problem)
	}
	now := time.Now()
	if len(answer.Backends) > 0 {
		w := tabwriter.NewWriter(io.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SERVER\tSTATUS\tWEIGHT\tSESSIONS\tSINCE\tLAST CHECK")
		for _, b := range answer.Backends {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", b.Name, b.Status, b.Weight, b.Sessions, ago(now, b.Since), cmp.Or(b.LastCheck, "-"))
		}
		_ = w.Flush() // to stdout: whoever closed it knows
	}
	if !printNotes(io.Out, r, now) || !healthy {
		return command.ErrNotHealthy
	}
	return nil
}

func lastReload(h agent.ProxyStatus, now time.Time) string {
	if h.LastReload.IsZero() {
		return ""
	}
	return fmt.Sprintf(", the last one %s, in %s: %s", ago(now, h.LastReload), h.LastReloadTook, h.LastReloadWhy)
}

// readAge is the age of what the registry said.
func readAge(r agent.RegistrationStatus) string {
	if !r.Confirmed {
		return "never"
	}
	return time.Duration(r.AgeSeconds*float64(time.Second)).Round(time.Second).String() + " ago"
}

func ago(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return max(now.Sub(then), 0).Round(time.Second).String() + " ago"
}

func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return strconv.Itoa(n) + " " + what + "es"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

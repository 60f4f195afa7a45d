package plugcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// TestMain lets the test binary be what the real one is to the plug: a guard.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && strings.Join(os.Args[1:4], " ") == "smartstack plug guard" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := plug.Guard(ctx, os.Stdin, os.Stdout, os.Args[4])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run runs "plug ARGS" and returns its streams and its error.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	for _, c := range Command().Sub {
		if name, _, _ := strings.Cut(c.Use, " "); name != args[0] {
			continue
		}
		fs := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
		if c.Flags != nil {
			c.Flags(fs)
		}
		if err := fs.Parse(args[1:]); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		err := c.Run(t.Context(), command.IO{In: strings.NewReader(""), Out: &out, Err: &errs}, fs.Args())
		return out.String(), errs.String(), err
	}
	t.Fatalf("there is no command %q", args[0])
	return "", "", nil
}

func TestCommands(t *testing.T) {
	t.Parallel()
	if !paastatest.InNamespace(t) {
		return
	}
	state := func() plug.Status {
		t.Helper()
		out, _, err := run(t, "status", "--protect", "nfqueue", "--json")
		var s plug.Status
		if err := errors.Join(err, json.Unmarshal([]byte(out), &s)); err != nil {
			t.Fatal(err)
		}
		return s
	}

	out, _, err := run(t, "check", "--protect", "nfqueue")
	if !errors.Is(err, command.ErrNotHealthy) || !strings.Contains(out, "not set up") {
		t.Errorf("check before setup: %q, %v", out, err)
	}
	for range 2 {
		if out, _, err = run(t, "setup", "--protect", "nfqueue"); err != nil || out != "nfqueue is set up for 169.254.255.254\n" {
			t.Fatalf("setup: %q, %v", out, err)
		}
	}
	if _, _, err = run(t, "check", "--protect", "nfqueue"); err != nil {
		t.Errorf("check after setup: %v", err)
	}
	if s := state(); !s.SetUp || s.Holding || s.Protect != plug.NFQueue || s.Address != "169.254.255.254" {
		t.Errorf("status after setup: %+v", s)
	}

	// The command sees the plug closed, and its exit code is ours.
	out, stderr, err := run(t, "protect", "--protect", "nfqueue", "--", "sh", "-c", "nft list table ip paasta_plug 2>/dev/null; exit 7")
	var exit command.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 {
		t.Errorf("protect returned %v, want the command's exit code 7", err)
	}
	if !strings.Contains(out, "169.254.255.254 timeout 500ms") || !strings.Contains(out, "queue") {
		t.Errorf("while protected:\n%s", out)
	}
	if stderr != "" {
		t.Errorf("protect said %q", stderr)
	}
	if s := state(); s.Holding {
		t.Errorf("status after protect: %+v", s)
	}

	// A command that takes too long is protected for a while, and told so.
	_, stderr, err = run(t, "protect", "--protect", "nfqueue", "--hold", "200ms", "--", "sleep", "0.6")
	if err != nil || !strings.Contains(stderr, "new connections were let go after") {
		t.Errorf("protect of a slow command: %q, %v", stderr, err)
	}

	// What cannot be protected is not run, unless one insists.
	_, _, err = run(t, "protect", "--protect", "qdisc", "--interface", "nosuch0", "--", "touch", t.TempDir()+"/ran")
	if err == nil || !strings.Contains(err.Error(), `there is no interface "nosuch0"`) || !strings.HasPrefix(err.Error(), "touch was not run") {
		t.Errorf("protect without an interface: %v", err)
	}
	out, stderr, err = run(t, "protect", "--protect", "qdisc", "--interface", "nosuch0", "--best-effort", "--", "echo", "ran")
	if err != nil || out != "ran\n" || !strings.Contains(stderr, "new connections are not held") {
		t.Errorf("protect --best-effort: %q, %q, %v", out, stderr, err)
	}

	if _, _, err = run(t, "release", "--protect", "nfqueue"); err != nil {
		t.Errorf("release: %v", err)
	}
	if _, _, err = run(t, "clear", "--protect", "nfqueue"); err != nil {
		t.Errorf("clear: %v", err)
	}
	if s := state(); s.SetUp {
		t.Errorf("status after clear: %+v", s)
	}
}

// A run that ends by a signal lets go.
func TestProtectIsInterrupted(t *testing.T) {
	t.Parallel()
	if !paastatest.InNamespace(t) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	f := plugFlags{protect: "nfqueue", address: "169.254.255.254", interfaces: []string{"lo"}, hold: time.Minute, wait: 5 * time.Second}
	var out, errs bytes.Buffer
	err := protect(ctx, command.IO{In: strings.NewReader(""), Out: &out, Err: &errs}, &f, []string{"sleep", "60"})
	if err == nil {
		t.Error("an interrupted command ended well")
	}
	p, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Status(t.Context()); err != nil || s.Holding {
		t.Errorf("after the interrupt: %+v, %v", s, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"setup", "--protect", "tape"},
		{"setup", "--address", "nowhere"},
		{"setup", "extra"},
		{"setup", "--protect", "nfqueue", "--hold", "2h"},
		{"protect"},
		{"guard"},
	} {
		_, _, err := run(t, args...)
		if _, ok := errors.AsType[command.UsageError](err); !ok {
			t.Errorf("plug %q: %v, want a usage error", args, err)
		}
	}
}

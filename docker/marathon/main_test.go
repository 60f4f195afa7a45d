package marathon_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/docker/marathon"
	"github.com/gopaasta/paasta/paasta/command"
)

// asDaemon in the environment makes this test binary a paasta marathon, so that
// tests can kill it.
const asDaemon = "PAASTA_TEST_MARATHON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c := marathon.Command()
	flags := pflag.NewFlagSet("marathon", pflag.ExitOnError)
	c.Flags(flags)
	if err := flags.Parse(os.Args[1:]); err != nil {
		panic(err)
	}
	if err := c.Run(ctx, command.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A child is a paasta marathon in a process of its own.
type child struct {
	daemon
	args []string
	cmd  *exec.Cmd
	log  string
}

// spawn starts one on an address that must be free.
func spawn(t *testing.T, address string, args ...string) *child {
	t.Helper()
	c := &child{daemon: daemon{t: t, url: "http://" + address}, log: t.TempDir() + "/log"}
	c.args = append([]string{"--listen", address, "--state-dir", t.TempDir()}, args...)
	c.begin()
	t.Cleanup(func() {
		var apps struct{ Apps []struct{ ID string } }
		c.get("/v2/apps", &apps)
		for _, a := range apps.Apps {
			c.call("DELETE", "/v2/apps"+a.ID, "")
		}
		c.until(30*time.Second, "all tasks are gone", func() bool { return len(c.tasks("")) == 0 })
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
		if t.Failed() {
			text, _ := os.ReadFile(c.log)
			t.Logf("its log:\n%s", text)
		}
	})
	return c
}

func (c *child) begin() {
	c.t.Helper()
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	c.cmd = exec.Command(os.Args[0], c.args...)
	c.cmd.Env = append(os.Environ(), asDaemon+"=1")
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.until(10*time.Second, "it answers", func() bool { return c.call("GET", "/ping", "").status == 200 })
}

// kill ends it with SIGKILL.
func (c *child) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait() // it says that it was killed
}

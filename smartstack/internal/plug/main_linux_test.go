package plug

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the two processes that the tests kill: a
// guard, and a holder that holds and then does nothing.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "plug-guard":
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			err := Guard(ctx, os.Stdin, os.Stdout, os.Args[2])
			stop()
			exit(err)
		case "plug-holder":
			exit(holdForEver(Method(os.Args[2])))
		}
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var guardCommand = []string{"/proc/self/exe", "plug-guard"}

func holdForEver(method Method) error {
	p, err := New(Options{Protect: method, Hold: time.Minute, GuardCommand: guardCommand})
	if err != nil {
		return err
	}
	if err := p.Hold(context.Background()); err != nil {
		return err
	}
	fmt.Println("guard", p.h.g.cmd.Process.Pid)
	select {}
}

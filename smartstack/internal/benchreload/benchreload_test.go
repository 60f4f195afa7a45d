//go:build linux

package benchreload

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

// TestMain lets the test binary be the plug's guard.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "plug-guard" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := plug.Guard(ctx, os.Stdin, os.Stdout, os.Args[2])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A small run of the whole experiment: what is promised to lose nothing loses
// nothing.
func TestRun(t *testing.T) {
	t.Parallel()
	paastatest.Need(t, "haproxy")
	if !paastatest.InNamespace(t) {
		return
	}
	r, err := Run(t.Context(), Options{
		Strategies: Strategies, Requests: 2000, Reloads: 20, Other: 2, Concurrency: 4, Every: 100 * time.Millisecond,
		Dir: t.TempDir(), GuardCommand: []string{"/proc/self/exe", "plug-guard"}, Progress: func(string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	var table, picture bytes.Buffer
	if err := errors.Join(r.Print(&table), r.Draw(&picture)); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if n := r.Failed(); n != 0 {
		t.Errorf("%d requests failed that were promised to succeed", n)
	}
	for _, x := range r.Results {
		switch {
		case x.Strategy == Qdisc && x.Missing != "": // this kernel has none; the table says so
		case x.Missing != "":
			t.Errorf("%s was not run: %s", x.Strategy, x.Missing)
		case x.Requests < 100 || x.Reloads < 5 && x.Strategy != NoReload:
			t.Errorf("%s: %d requests, %d reloads", x.Strategy, x.Requests, x.Reloads)
		}
		if !strings.Contains(picture.String(), descriptions[x.Strategy]) {
			t.Errorf("the picture has no panel for %s", x.Strategy)
		}
	}
	for d := xml.NewDecoder(&picture); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
	}
}

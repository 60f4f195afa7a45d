// Command hello is the example service: the smallest that keeps the contract
// of a PaaSTA service. It listens on 8888, answers GET /status while it is
// well, shows what it measures under /status/metrics, logs to stdout, and on
// SIGTERM finishes what it has begun.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

// version is the commit, set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. "get URL" asks instead of serving: an image from
// scratch has no curl, and tests and health checks inside the container want
// one.
func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "get":
		return get(ctx, args[1], out)
	case len(args) > 0:
		return fmt.Errorf("%q: usage: hello [get URL]", args)
	}
	l, err := net.Listen("tcp", ":8888")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "hello %s listens on %s\n", version, l.Addr())
	return serve(ctx, l, handler(), out)
}

func handler() http.Handler {
	mux := http.NewServeMux()
	metrics := dropwizard.NewRegistry()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /status/metrics", metrics) // which the namespace's metrics_uri names
	mux.Handle("GET /{$}", metrics.Middleware("hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s on %s\n", version, task())
	})))
	return mux
}

// task names this copy of the service: Marathon's name for it, or the host's.
func task() string {
	if id := os.Getenv("MESOS_TASK_ID"); id != "" {
		return id
	}
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// serve answers on l with h. When ctx ends it closes idle connections and waits up to
// ten seconds for the requests that are being answered.
func serve(ctx context.Context, l net.Listener, h http.Handler, out io.Writer) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "hello was told to stop: finishing what was begun")
	srv.SetKeepAlivesEnabled(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := srv.Shutdown(ctx)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

func get(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

// Command visits is the second example service: it counts who comes by, in a
// Redis, and lets the service hello greet them. It shows how a service calls
// another one, at 169.254.255.254 on hello's proxy_port, and how it is tested
// against private copies of both.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What production has; an environment variable of the test says otherwise where
// there is one.
const (
	helloURL     = "http://169.254.255.254:20001"
	redisAddress = "redis.example.com:6379"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := service{hello: helloURL, redis: redisAddress}
	if host := os.Getenv("REDIS_HOST"); host != "" {
		s.redis = net.JoinHostPort(host, os.Getenv("REDIS_PORT"))
	}
	if err := s.run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "visits:", err)
		os.Exit(1)
	}
}

// A service knows where the others are.
type service struct{ hello, redis string }

// run serves until ctx ends. "check" tests the service in its own image: it
// serves, visits itself twice, and looks at the answers.
func (s service) run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "check":
		return s.check(ctx, out)
	case len(args) > 0:
		return fmt.Errorf("%q: usage: visits [check]", args)
	}
	return s.serve(ctx, ":8888", out)
}

func (s service) serve(ctx context.Context, address string, out io.Writer) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "visits listens on %s\n", l.Addr())
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}

func (s service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /visit/{who}", func(w http.ResponseWriter, r *http.Request) {
		who := r.PathValue("who")
		count, err := s.count(r.Context(), who)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		greeting, err := get(r.Context(), s.hello+"/")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "%s: visit %d\n%s", who, count, greeting)
	})
	return mux
}

// count adds a visit and returns how many there are.
func (s service) count(ctx context.Context, who string) (int, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.redis)
	if err != nil {
		return 0, fmt.Errorf("redis: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	key := "visits:" + who
	if _, err := fmt.Fprintf(conn, "*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n", len(key), key); err != nil {
		return 0, fmt.Errorf("redis: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("redis: %w", err)
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(line), ":")
	if !ok {
		return 0, fmt.Errorf("redis answers %q", line)
	}
	return strconv.Atoi(number)
}

func get(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s: %s", address, resp.Status, text)
	}
	return string(text), nil
}

// check is the integration test. The counter must begin at 1: the database is
// this test's own.
func (s service) check(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, "127.0.0.1:8888", out) }()
	me := url.URL{Scheme: "http", Host: "127.0.0.1:8888"}
	var err error
	for range 100 {
		if _, err = get(ctx, me.JoinPath("status").String()); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	for n := 1; n <= 2; n++ {
		text, err := get(ctx, me.JoinPath("visit", "ada").String())
		if err != nil {
			return err
		}
		fmt.Fprint(out, text)
		if want := fmt.Sprintf("ada: visit %d\nhello from ", n); !strings.HasPrefix(text, want) {
			return fmt.Errorf("the answer is %q, want %q…", text, want)
		}
	}
	fmt.Fprintln(out, "visits: passed")
	cancel()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

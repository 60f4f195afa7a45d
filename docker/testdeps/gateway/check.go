package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gopaasta/paasta/paasta/healthcheck"
)

const (
	// One try of a check may take this long,
	tryFor = 2 * time.Second
	// and to connect, next door, only this long: what is lost is sent again after
	// a second.
	connectFor = 250 * time.Millisecond
)

// Wait tries until the check passes or ctx ends; then the error is that of the
// last whole try.
func Wait(ctx context.Context, c Check) error {
	last := errNotAsked
	// The longer it takes, the less a moment more counts.
	for began := time.Now(); ; {
		err := try(ctx, c)
		pause := min(max(time.Since(began)/50, 10*time.Millisecond), 100*time.Millisecond)
		if err == nil {
			return nil
		}
		if !over(ctx) || errors.Is(last, errNotAsked) {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
		}
	}
}

var errNotAsked = errors.New("not asked yet")

// over tells whether ctx has ended, or is about to: a connection learns of the
// deadline first.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// try connects before it asks: as a rule nobody listens yet, and to find that
// out costs a tenth of a request.
func try(ctx context.Context, c Check) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	dialer := net.Dialer{Timeout: connectFor}
	conn, err := dialer.DialContext(ctx, "tcp4", c.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Path == "" {
		return nil
	}
	scheme := "http://"
	if c.TLS {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+c.Address+c.Path, nil)
	if err != nil {
		return err
	}
	asks := healthcheck.Client(func(context.Context, string, string) (net.Conn, error) { return conn, nil })
	resp, err := asks.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if err := healthcheck.Judge(resp); err != nil {
		return fmt.Errorf("GET %s answers %w", c.Path, err)
	}
	return nil
}

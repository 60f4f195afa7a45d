// Package probe looks at a server the way HAProxy would, once: HAProxy calls a
// server up before it ever checked it, so an agent looks itself before it adds
// one.
package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// longestBody bounds what is read to find the expected text.
const longestBody = 1 << 20

var client = &http.Client{
	// One request a connection: the next probe must find out whether the server
	// still accepts any.
	Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as "check-ssl verify none": an address has no name to verify
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Once checks the server at addr and returns nil if it passes.
func Once(ctx context.Context, addr netip.AddrPort, c haproxy.Check) error {
	if c.Port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), uint16(c.Port))
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if c.Mode == haproxy.ModeTCP {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		if err != nil {
			return err // says the address
		}
		return conn.Close()
	}
	return get(ctx, addr, c)
}

func get(ctx context.Context, addr netip.AddrPort, c haproxy.Check) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Mode+"://"+addr.String()+c.Path, nil)
	if err != nil {
		return fmt.Errorf("check %s: %w", c.Path, err)
	}
	for _, h := range c.AllHeaders() {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		} else {
			req.Header.Set(h.Name, h.Value)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err // says the method and the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return errors.New("GET " + req.URL.String() + ": " + strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
	}
	if c.BodyExpect == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, longestBody))
	if err != nil {
		return fmt.Errorf("GET %s: %w", req.URL, err)
	}
	if !bytes.Contains(body, []byte(c.BodyExpect)) {
		return fmt.Errorf("GET %s: the body does not hold %q", req.URL, c.BodyExpect)
	}
	return nil
}

// Pauses between two probes of a server that does not pass.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

// A Limit bounds how many probes run at a time.
type Limit chan struct{}

// UntilPass probes until the server passes, then returns true; false when ctx
// ends. told hears of each failure.
func (l Limit) UntilPass(ctx context.Context, addr netip.AddrPort, c haproxy.Check, told func(error)) bool {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := l.once(ctx, addr, c)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		told(err)
		if !sleep(ctx, pause) {
			return false
		}
	}
}

// UntilDown probes until the server fails twice in a row, then returns true;
// false when ctx ends.
func (l Limit) UntilDown(ctx context.Context, addr netip.AddrPort, c haproxy.Check) bool {
	const again = 200 * time.Millisecond
	failed := 0
	for pause := again; ; pause = min(2*pause, longestPause) {
		if err := l.once(ctx, addr, c); err == nil {
			failed = 0
		} else if failed++; failed == 2 && ctx.Err() == nil {
			return true
		} else {
			pause = again
		}
		if !sleep(ctx, pause) {
			return false
		}
	}
}

func (l Limit) once(ctx context.Context, addr netip.AddrPort, c haproxy.Check) error {
	select {
	case l <- struct{}{}:
		defer func() { <-l }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return Once(ctx, addr, c)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

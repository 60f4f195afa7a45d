package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
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
	dialer := net.Dialer{Timeout: connectFor}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	asks := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	last := errors.New("not asked yet")
	// The longer it takes, the less a moment more counts.
	for began := time.Now(); ; {
		err := try(ctx, asks, c)
		pause := min(max(time.Since(began)/100, 5*time.Millisecond), 100*time.Millisecond)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last.Error() == "not asked yet" {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
		}
	}
}

func try(ctx context.Context, asks *http.Client, c Check) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	if c.Path == "" {
		d := net.Dialer{Timeout: connectFor}
		conn, err := d.DialContext(ctx, "tcp4", c.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	scheme := "http://"
	if c.TLS {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+c.Address+c.Path, nil)
	if err != nil {
		return err
	}
	resp, err := asks.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("GET %s answers %s", c.Path, resp.Status)
	}
	return nil
}

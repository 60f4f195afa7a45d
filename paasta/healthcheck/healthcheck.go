// Package healthcheck has what the HTTP health checks of Marathon, Mesos and
// test dependencies have in common.
package healthcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
)

// Client returns a client that sees what a new client of a server sees: each
// check connects anew. It takes any certificate, since the name is an address,
// and follows no redirect. dial may be nil.
func Client(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:       dial,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as Marathon and Mesos
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Judge returns an error that names the status of an answer which is no success:
// those are 200 to 399, as Marathon and Mesos have it.
func Judge(r *http.Response) error {
	if r.StatusCode < 200 || r.StatusCode > 399 {
		return errors.New(r.Status)
	}
	return nil
}

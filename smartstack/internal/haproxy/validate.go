package haproxy

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// longest bounds texts that go into one line; HAProxy's own limit of a line is
// 2048 bytes.
const longest = 512

// Validate says everything that is wrong with s, nil if nothing is. A service
// that it passes cannot add a line to a config, nor end one early.
func (s Service) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if !isName(s.Name) {
		bad("name %q: HAProxy takes only letters, digits and -_.:", s.Name)
	}
	if s.Mode != ModeHTTP && s.Mode != ModeTCP {
		bad("mode %q: want http or tcp", s.Mode)
	}
	if _, ok := Balances[s.Balance]; !ok {
		bad("balance %q is not known", s.Balance)
	}
	for _, b := range s.Bind {
		if !b.IsValid() || b.Port() == 0 || b.Addr().Zone() != "" {
			bad("bind %q is no address and port", b)
		}
	}
	if s.Retries < 0 || s.Retries > 100 {
		bad("retries %d: want 0 to 100", s.Retries)
	}
	for name, d := range map[string]time.Duration{"timeout_connect_ms": s.TimeoutConnect, "timeout_client_ms": s.TimeoutClient, "timeout_server_ms": s.TimeoutServer} {
		if d <= 0 || d > maxTimeout {
			bad("%s %s: want more than 0 and at most %s", name, d, maxTimeout)
		}
	}
	if s.TimeoutTunnel < 0 || s.TimeoutTunnel > maxTimeout {
		bad("timeout_tunnel_ms %s: want at most %s", s.TimeoutTunnel, maxTimeout)
	}
	for _, e := range s.Endpoints {
		if err := checkPath(e.Path); err != nil {
			bad("endpoint_timeouts: path %q %w", e.Path, err)
		}
		if e.Timeout <= 0 || e.Timeout > maxTimeout {
			bad("endpoint_timeouts: %q: timeout %s", e.Path, e.Timeout)
		}
	}
	errs = append(errs, s.Check.validate(), headers("extra_headers", s.Headers))
	if s.ProxiedThrough != "" && !isName(s.ProxiedThrough) {
		bad("proxied_through %q is no registration", s.ProxiedThrough)
	}
	if f := s.Fault; f.Error != 0 && (f.Error < 200 || f.Error > 599) {
		bad("fault: status %d", f.Error)
	}
	if c := s.Cache; c != nil && (c.MaxAge < time.Second || c.MaxObjectKB < 1 || c.MaxObjectKB > maxCacheObjectKB) {
		bad("cache: max_age_s must be at least 1 and max_object_kb between 1 and %d", maxCacheObjectKB)
	}
	for _, b := range s.Backends {
		if !isName(b.Name) {
			bad("backend %q: HAProxy takes only letters, digits and -_.:", b.Name)
		}
		for _, srv := range b.Servers {
			if !isName(srv.Name) || !srv.Addr.IsValid() || srv.Addr.Port() == 0 || srv.Addr.Addr().Zone() != "" || srv.ID < 1 || srv.Weight < 0 || srv.Weight > MaxWeight {
				bad("server %q at %s, id %d, weight %d", srv.Name, srv.Addr, srv.ID, srv.Weight)
			}
		}
	}
	return errors.Join(errs...)
}

const (
	maxTimeout       = 24 * 24 * time.Hour // HAProxy's own: 2^31 ms
	maxCacheObjectKB = 2048
	cacheMB          = 4 // of each service; an object may take half of it
)

func (c Check) validate() error {
	var errs []error
	if c.Mode != ModeHTTP && c.Mode != ModeHTTPS && c.Mode != ModeTCP {
		errs = append(errs, fmt.Errorf("healthcheck_mode %q: want http, https or tcp", c.Mode))
	}
	if c.Mode != ModeTCP {
		if err := checkPath(c.Path); err != nil {
			errs = append(errs, fmt.Errorf("healthcheck_uri %q %w", c.Path, err))
		}
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("healthcheck_port %d", c.Port))
	}
	if c.Timeout <= 0 || c.Every <= 0 || c.Fast <= 0 {
		errs = append(errs, errors.New("check: timeout and intervals must be above 0"))
	}
	if err := printable(c.BodyExpect, longest); err != nil {
		errs = append(errs, fmt.Errorf("healthcheck_body_expect %w", err))
	}
	return errors.Join(append(errs, headers("extra_healthcheck_headers", c.Headers))...)
}

func checkPath(p string) error {
	if !strings.HasPrefix(p, "/") {
		return errors.New("does not begin with /")
	}
	if strings.Contains(p, " ") {
		return errors.New("has a space")
	}
	return printable(p, longest)
}

func headers(key string, hs []Header) error {
	var errs []error
	for _, h := range hs {
		if !isToken(h.Name) {
			errs = append(errs, fmt.Errorf("%s: %q is no header name", key, h.Name))
		}
		if err := printable(h.Value, longest); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s %w", key, h.Name, err))
		}
	}
	if len(hs) > 15 { // a line has room for 64 words
		errs = append(errs, fmt.Errorf("%s: %d headers, more than 15", key, len(hs)))
	}
	return errors.Join(errs...)
}

func isToken(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// Dynamic tells whether servers come and go at run time in s's backends.
func (s Service) Dynamic() bool { return Balances[s.Balance] }

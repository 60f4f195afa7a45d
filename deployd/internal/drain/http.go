package drain

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// HTTP drains by requests that the service's owner has defined: drain,
// stop_draining, is_draining, is_safe_to_kill.
type HTTP struct {
	URLs map[string]soaconfig.DrainURL
}

var _ Drainer = HTTP{}

// Start sends drain.
func (h HTTP) Start(ctx context.Context, t Target) error { return h.must(ctx, "drain", t) }

// Stop sends stop_draining.
func (h HTTP) Stop(ctx context.Context, t Target) error { return h.must(ctx, "stop_draining", t) }

// State sends is_draining and is_safe_to_kill.
func (h HTTP) State(ctx context.Context, t Target) (draining, safe bool, err error) {
	draining, _, err = h.send(ctx, "is_draining", t)
	if err != nil {
		return false, false, err
	}
	safe, _, err = h.send(ctx, "is_safe_to_kill", t)
	return draining, safe, err
}

func (h HTTP) must(ctx context.Context, name string, t Target) error {
	ok, said, err := h.send(ctx, name, t)
	if err == nil && !ok {
		err = fmt.Errorf("%s of %s:%d: %s", name, t.Host, t.Port, said)
	}
	return err
}

// send sends one request for each registration, and tells whether all answers
// were a success.
func (h HTTP) send(ctx context.Context, name string, t Target) (ok bool, said string, err error) {
	u, defined := h.URLs[name]
	if !defined {
		return false, "", fmt.Errorf("drain_method_params has no %s", name)
	}
	registrations := t.Registrations
	if len(registrations) == 0 {
		registrations = []string{t.Service + "." + t.Instance}
	}
	for _, registration := range registrations {
		target := strings.NewReplacer(
			"{host}", t.Host, "{port}", strconv.Itoa(t.Port), "{service}", t.Service,
			"{instance}", t.Instance, "{nerve_ns}", registration,
		).Replace(u.URLFormat)
		method := u.Method
		if method == "" {
			method = http.MethodGet
		}
		r, err := http.NewRequestWithContext(ctx, method, target, nil)
		if err != nil {
			return false, "", err
		}
		response, err := client.Do(r)
		if err != nil {
			return false, "", err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)) // so that the connection is kept
		response.Body.Close()
		good, err := success(u.SuccessCodes, response.StatusCode)
		if err != nil {
			return false, "", fmt.Errorf("%s: %w", name, err)
		}
		if !good {
			return false, fmt.Sprintf("%s %s: %s", method, target, response.Status), nil
		}
	}
	return true, "", nil
}

// success tells whether code is among codes, e.g. "200-399,500".
func success(codes string, code int) (bool, error) {
	if codes == "" {
		return code/100 == 2, nil
	}
	for part := range strings.SplitSeq(codes, ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			high = low
		}
		from, err := strconv.Atoi(low)
		if err != nil {
			return false, fmt.Errorf("success_codes %q: %q is no status code", codes, low)
		}
		to, err := strconv.Atoi(high)
		if err != nil {
			return false, fmt.Errorf("success_codes %q: %q is no status code", codes, high)
		}
		if from <= code && code <= to {
			return true, nil
		}
	}
	return false, nil
}

package drain

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Hacheck drains through hacheck's spool: the service is marked down there, so
// its health checks fail, until the mark expires.
type Hacheck struct {
	Port       int
	Delay      time.Duration // how long a task is down before it is safe
	Expiration time.Duration // of the mark; heals what a bounce left behind
}

var _ Drainer = Hacheck{}

func (h Hacheck) url(t Target, registration string) string {
	return fmt.Sprintf("http://%s:%d/spool/%s/%d/status", t.Host, h.Port, registration, t.Port)
}

// Start marks the task down.
func (h Hacheck) Start(ctx context.Context, t Target) error {
	return h.post(ctx, t, url.Values{
		"status": {"down"}, "reason": {"Drained by Paasta"},
		"expiration": {strconv.FormatInt(time.Now().Add(h.Expiration).Unix(), 10)},
	})
}

// Stop marks it up again.
func (h Hacheck) Stop(ctx context.Context, t Target) error {
	return h.post(ctx, t, url.Values{"status": {"up"}})
}

func (h Hacheck) post(ctx context.Context, t Target, form url.Values) error {
	for _, name := range t.Registrations {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url(t, name), strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode/100 != 2 {
			return fmt.Errorf("POST %s: %s", r.URL, response.Status)
		}
	}
	return nil
}

// State asks hacheck. A task is safe once it has been down everywhere for the
// delay.
func (h Hacheck) State(ctx context.Context, t Target) (draining, safe bool, err error) {
	safe = len(t.Registrations) > 0
	for _, name := range t.Registrations {
		down, since, err := h.ask(ctx, h.url(t, name))
		if err != nil {
			return false, false, err
		}
		draining = draining || down
		safe = safe && down && time.Since(since) >= h.Delay
	}
	return draining, safe, nil
}

var spoolState = regexp.MustCompile(`^Service (.+) in (.+) state(?: since ([0-9.]+))?(?: until ([0-9.]+))?(?:: (.*))?$`)

func (h Hacheck) ask(ctx context.Context, target string) (down bool, since time.Time, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false, since, err
	}
	response, err := client.Do(r)
	if err != nil {
		return false, since, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return false, since, nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return false, since, err
	}
	return parseSpool(target, response.Status, string(text))
}

func parseSpool(target, status, text string) (down bool, since time.Time, err error) {
	m := spoolState.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return false, since, fmt.Errorf("GET %s: %s: %.200q says no state", target, status, text)
	}
	if m[3] != "" {
		seconds, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return false, since, fmt.Errorf("GET %s: since %q is no time", target, m[3])
		}
		since = time.Unix(0, int64(seconds*float64(time.Second)))
	}
	return m[2] == "down", since, nil
}

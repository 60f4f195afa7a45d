// Package collect reads the metrics that tasks of this host show themselves, in
// Dropwizard's JSON (package dropwizard), where their namespace says so with
// metrics_uri. A task that does not answer, or says something else, costs
// nobody anything but its own numbers.
package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/metrics/dropwizard"
)

// Bounds on what a round may cost.
const (
	atOnce   = 8
	within   = 2 * time.Second // for one answer
	maxBody  = 1 << 20
	maxNames = 200 // metrics of a kind that are kept of a task
)

// A Task is one that shows metrics.
type Task struct {
	Registration, Server      string
	TaskID, Instance, Version string
	URL                       string
}

// A Collector asks all tasks every now and then.
type Collector struct {
	Tasks func() []Task
	Every time.Duration // default 10s
	Log   *slog.Logger

	mu   sync.Mutex
	seen map[Task]answer
}

// answer is what a task said last.
type answer struct {
	view dropwizard.View
	at   time.Time
	err  error
}

// No connection is kept: whoever drains a task waits until none is left.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: within},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// look is how often the list of tasks is read.
const look = time.Second

// Run asks until ctx ends: every task once it is known, and then every Every.
func (c *Collector) Run(ctx context.Context) error {
	ticker := time.NewTicker(min(look, cmp.Or(c.Every, look)))
	defer ticker.Stop()
	for {
		c.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// round asks every task whose turn it is, and forgets those that are gone.
func (c *Collector) round(ctx context.Context) {
	tasks := c.Tasks()
	seen := make(map[Task]answer, len(tasks))
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, atOnce)
	c.mu.Lock()
	old := c.seen
	c.mu.Unlock()
	every := cmp.Or(c.Every, 10*time.Second)
	for _, t := range tasks {
		if before, known := old[t]; known && time.Since(before.at) < every-look/2 {
			mu.Lock()
			seen[t] = before
			mu.Unlock()
			continue
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			view, err := readMetrics(ctx, t.URL)
			mu.Lock()
			defer mu.Unlock()
			seen[t] = answer{view, time.Now(), err}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.seen = seen
	c.mu.Unlock()
	for t, a := range seen {
		if before, known := old[t]; a.err != nil && (!known || before.err == nil) {
			c.Log.Warn("read the metrics of a task failed", "registration", t.Registration, "task", t.TaskID, "err", a.err)
		}
	}
}

// readMetrics reads the metrics at a URL.
func readMetrics(ctx context.Context, url string) (view dropwizard.View, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return view, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return view, err // says method and URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return view, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return view, fmt.Errorf("GET %s: %w", url, err)
	}
	if len(body) > maxBody {
		return view, fmt.Errorf("GET %s: more than %d bytes", url, maxBody)
	}
	if err := json.Unmarshal(body, &view); err != nil {
		return dropwizard.View{}, fmt.Errorf("GET %s: no metrics in Dropwizard's JSON: %w", url, err)
	}
	if view.Counters == nil && view.Gauges == nil && view.Histograms == nil && view.Meters == nil && view.Timers == nil {
		return dropwizard.View{}, fmt.Errorf("GET %s: no metrics in Dropwizard's JSON: none of its keys is there", url)
	}
	keepHighest(view.Timers, func(t dropwizard.TimerView) float64 { return t.Count })
	keepHighest(view.Counters, func(c dropwizard.CounterView) float64 { return c.Count })
	keepHighest(view.Gauges, func(dropwizard.GaugeView) float64 { return 0 })
	keepHighest(view.Meters, func(m dropwizard.MeterView) float64 { return m.Count })
	keepHighest(view.Histograms, func(h dropwizard.Summary) float64 { return h.Count })
	return view, nil
}

// keepHighest keeps the metrics with the highest counts.
func keepHighest[V any](all map[string]V, count func(V) float64) {
	names := make([]string, 0, len(all))
	for name := range all {
		if clean := strings.ToValidUTF8(name, "?"); clean != name || len(name) > 200 {
			delete(all, name)
			continue
		}
		names = append(names, name)
	}
	if len(names) <= maxNames {
		return
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(count(all[b]), count(all[a])), strings.Compare(a, b)) })
	for _, name := range names[maxNames:] {
		delete(all, name)
	}
}

// Of returns what the local tasks of a service said last, by registration and
// server.
func (c *Collector) Of(service string) []paasta.TaskMetrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []paasta.TaskMetrics
	for t, a := range c.seen {
		if !strings.HasPrefix(t.Registration, service+".") {
			continue
		}
		m := paasta.TaskMetrics{
			Registration: t.Registration, Server: t.Server, TaskID: t.TaskID, At: a.at,
			Timers: map[string]paasta.TaskTimer{}, Counters: map[string]float64{}, Gauges: map[string]float64{},
		}
		if a.err != nil {
			m.Error = a.err.Error()
		}
		for name, x := range a.view.Timers {
			m.Timers[name] = paasta.TaskTimer{Count: x.Count, Rate: x.M1Rate, Mean: x.Mean, P50: x.P50, P95: x.P95, P99: x.P99}
		}
		for name, x := range a.view.Counters {
			m.Counters[name] = x.Count
		}
		for name, x := range a.view.Gauges {
			m.Gauges[name] = x.Value
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b paasta.TaskMetrics) int {
		return cmp.Or(strings.Compare(a.Registration, b.Registration), strings.Compare(a.Server, b.Server), strings.Compare(a.TaskID, b.TaskID))
	})
	return all
}

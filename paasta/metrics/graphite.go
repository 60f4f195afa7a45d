package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A Graphite sends all metrics of Gather to a Carbon server, in its plaintext
// protocol, every Every. While the server is away it keeps the latest Buffer
// lines and tries again with growing pauses; what it had to drop it counts. Its
// failures never reach the rest of the process.
type Graphite struct {
	Addr   string        // host:port
	Prefix string        // before every name, without the last dot; e.g. "paasta.host1"
	Every  time.Duration // default 10s
	Buffer int           // lines; default 100,000
	Gather prometheus.Gatherer
	Log    *slog.Logger

	sent, dropped prometheus.Counter
	lines         []string
	unread        string // what was said of metrics that could not be read
}

// graphiteTimeout bounds a dial and a write.
const graphiteTimeout = 5 * time.Second

// init fills in the defaults; calling it again changes nothing.
func (g *Graphite) init() {
	if g.Every == 0 {
		g.Every = 10 * time.Second
	}
	if g.Buffer == 0 {
		g.Buffer = 100_000
	}
	if g.sent == nil {
		g.sent = prometheus.NewCounter(prometheus.CounterOpts{Name: "paasta_graphite_lines_sent_total", Help: "Lines that the Graphite server took."})
		g.dropped = prometheus.NewCounter(prometheus.CounterOpts{Name: "paasta_graphite_lines_dropped_total", Help: "Lines dropped because the Graphite server was away for too long."})
	}
}

// Register adds the counts of lines sent and dropped to r.
func (g *Graphite) Register(r prometheus.Registerer) {
	g.init()
	r.MustRegister(g.sent, g.dropped)
}

// Run sends until ctx ends, and then returns nil. What is still kept is tried
// once more before it returns.
func (g *Graphite) Run(ctx context.Context) error {
	g.init()
	ticker := time.NewTicker(g.Every)
	defer ticker.Stop()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = min(time.Second, g.Every)
	retry.MaxInterval = time.Minute
	var notBefore time.Time
	failing := false
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := g.send(ctx); err != nil {
				g.Log.Warn("send to graphite failed at the end, lines are lost", "addr", g.Addr, "lines", len(g.lines), "err", err)
			}
			return nil
		case now := <-ticker.C:
			g.keep(now)
			if now.Before(notBefore) {
				continue
			}
			if err := g.send(ctx); err != nil {
				pause := retry.NextBackOff()
				notBefore = now.Add(pause)
				if !failing {
					g.Log.Warn("send to graphite failed, keeping lines", "addr", g.Addr, "err", err, "retry_in", pause)
				}
				failing = true
				continue
			}
			if failing {
				g.Log.Info("graphite takes lines again", "addr", g.Addr)
			}
			failing, notBefore = false, time.Time{}
			retry.Reset()
		}
	}
}

// keep adds what is measured now, and drops the oldest lines beyond Buffer.
func (g *Graphite) keep(now time.Time) {
	families, err := g.Gather.Gather()
	if err != nil {
		// Gather returns what it could together with the error, and says the same
		// each time.
		if err.Error() != g.unread {
			g.Log.Warn("read metrics for graphite failed in part", "err", err)
		}
		g.unread = err.Error()
	} else {
		g.unread = ""
	}
	for _, family := range families {
		g.lines = append(g.lines, graphiteLines(g.Prefix, family, now)...)
	}
	if over := len(g.lines) - g.Buffer; over > 0 {
		g.dropped.Add(float64(over))
		g.lines = append([]string(nil), g.lines[over:]...)
	}
}

// send writes what is kept. A connection that breaks in the middle may have
// carried some lines: they are sent again, which Carbon takes as the same
// points.
func (g *Graphite) send(ctx context.Context) error {
	if len(g.lines) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, graphiteTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	const batch = 1000
	for len(g.lines) > 0 {
		n := min(batch, len(g.lines))
		if _, err := io.WriteString(conn, strings.Join(g.lines[:n], "")); err != nil {
			return err
		}
		g.sent.Add(float64(n))
		g.lines = g.lines[n:]
	}
	g.lines = nil
	return nil
}

// graphiteLines returns "name value time\n" for each value of a family. Labels
// become parts of the name, in the order that Prometheus sorts them in:
// name.label.value…
func graphiteLines(prefix string, family *dto.MetricFamily, now time.Time) []string {
	var lines []string
	at := strconv.FormatInt(now.Unix(), 10)
	for _, m := range family.GetMetric() {
		name := family.GetName()
		if prefix != "" {
			name = prefix + "." + name
		}
		for _, l := range m.GetLabel() {
			name += "." + graphiteName(l.GetName()) + "." + graphiteName(l.GetValue())
		}
		add := func(suffix string, value float64) {
			if !math.IsNaN(value) && !math.IsInf(value, 0) {
				lines = append(lines, name+suffix+" "+strconv.FormatFloat(value, 'g', -1, 64)+" "+at+"\n")
			}
		}
		switch {
		case m.Counter != nil:
			add("", m.Counter.GetValue())
		case m.Gauge != nil:
			add("", m.Gauge.GetValue())
		case m.Untyped != nil:
			add("", m.Untyped.GetValue())
		case m.Summary != nil:
			add(".count", float64(m.Summary.GetSampleCount()))
			add(".sum", m.Summary.GetSampleSum())
			for _, q := range m.Summary.GetQuantile() {
				add(".p"+strings.ReplaceAll(fmt.Sprintf("%g", q.GetQuantile()*100), ".", ""), q.GetValue())
			}
		case m.Histogram != nil:
			add(".count", float64(m.Histogram.GetSampleCount()))
			add(".sum", m.Histogram.GetSampleSum())
			for _, b := range m.Histogram.GetBucket() {
				if !math.IsInf(b.GetUpperBound(), 0) {
					add(".le."+graphiteName(strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)), float64(b.GetCumulativeCount()))
				}
			}
		}
	}
	return lines
}

// graphiteName makes one part of a path: dots, slashes and white space would
// make another path or another line of it.
func graphiteName(s string) string {
	if s == "" {
		return "none"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == ':':
			return r
		}
		return '_'
	}, s)
}

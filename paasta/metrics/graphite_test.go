package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

func TestGraphiteLines(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"service", "endpoint"})
	requests.WithLabelValues("hello.main", "GET /users/{id}\nevil 1 2").Add(3)
	odd := prometheus.NewGauge(prometheus.GaugeOpts{Name: "odd"})
	odd.Set(math.NaN())
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Buckets: []float64{.1, 1}})
	took.Observe(.5)
	r.MustRegister(requests, odd, took)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		got = append(got, graphiteLines("paasta.h1", f, time.Unix(1700000000, 0))...)
	}
	want := []string{
		"paasta.h1.requests_total.endpoint.GET__users__id__evil_1_2.service.hello_main 3 1700000000\n",
		"paasta.h1.took_seconds.count 1 1700000000\n",
		"paasta.h1.took_seconds.sum 0.5 1700000000\n",
		"paasta.h1.took_seconds.le.0_1 0 1700000000\n",
		"paasta.h1.took_seconds.le.1 1 1700000000\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// A server that comes late gets what was kept, and no more than the buffer.
func TestGraphiteKeepsWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // away

	g, gauge := newGraphite(addr)
	g.Buffer = 10
	reg := prometheus.NewRegistry()
	g.Register(reg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	gauge.Set(1)
	paastatest.Until(t, "lines to be dropped", func() bool { return testutil.ToFloat64(g.dropped) > 5 })
	l, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gauge.Set(2)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "test.x ") {
		t.Errorf("first line %q, %v", line, err)
	}
	paastatest.Until(t, "lines to be sent", func() bool { return testutil.ToFloat64(g.sent) > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Debian's own Carbon takes what we send and writes it to its files.
func TestGraphiteCarbon(t *testing.T) {
	t.Parallel()
	carbon := paastatest.Need(t, "carbon-cache")
	dir := t.TempDir()
	port := freePort(t)
	config := fmt.Sprintf(`[cache]
STORAGE_DIR = %[1]s
CONF_DIR = %[1]s
LOG_DIR = %[1]s
PID_DIR = %[1]s
LOCAL_DATA_DIR = %[1]s/whisper
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = %[2]d
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_PORT = 0
ENABLE_TAGS = False
USE_FLOW_CONTROL = True
`, dir, port)
	for name, text := range map[string]string{
		"carbon.conf":          config,
		"storage-schemas.conf": "[all]\npattern = .*\nretentions = 1s:1h\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(carbon, "--nodaemon", "--config="+filepath.Join(dir, "carbon.conf"), "start")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
		_ = cmd.Wait() // killed: its exit status says so
		if t.Failed() {
			text, err := os.ReadFile(out.Name())
			t.Logf("carbon said (%v):\n%s", err, text)
		}
	})

	g, gauge := newGraphite(fmt.Sprintf("127.0.0.1:%d", port))
	gauge.Set(42)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	paastatest.Until(t, "carbon to write test/x.wsp", func() bool {
		info, err := os.Stat(filepath.Join(dir, "whisper", "test", "x.wsp"))
		return err == nil && info.Size() > 0
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func newGraphite(addr string) (*Graphite, prometheus.Gauge) {
	r := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"})
	r.MustRegister(gauge)
	return &Graphite{Addr: addr, Prefix: "test", Every: 20 * time.Millisecond, Gather: r, Log: slog.New(slog.DiscardHandler)}, gauge
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Metrics that cannot be read are said once, and the others go on.
func TestGraphiteSaysOnceWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	g := &Graphite{Log: slog.New(slog.NewTextHandler(&log, nil)), Gather: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return nil, errors.New("two of one name")
	})}
	g.init()
	for range 3 {
		g.keep(time.Now())
	}
	if n := strings.Count(log.String(), "WARN"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, log.String())
	}
}

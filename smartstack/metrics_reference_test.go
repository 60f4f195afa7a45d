package smartstack

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/metrics"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/accesslog"
	"github.com/gopaasta/paasta/smartstack/internal/agent"
)

var updateDocs = flag.Bool("update", false, "rewrite the lists of metrics in docs")

// remembered is a registry that only remembers.
type remembered struct {
	prometheus.Registerer
	all []prometheus.Collector
}

func (c *remembered) MustRegister(more ...prometheus.Collector) { c.all = append(c.all, more...) }

var descText = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)",.*variableLabels: \{([^}]*)\}`)

// TestReferenceIsComplete holds docs/reference/metrics.md to what the agent
// says about its metrics.
func TestReferenceIsComplete(t *testing.T) {
	c := &remembered{}
	agent.NewMetrics(c)
	(&metrics.Graphite{}).Register(c)
	log := newRequestLog(Options{Config: sysconfig.Config{}, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}, t.TempDir())
	hold := newHostPlug(t.Context(), sysconfig.Reload{Protect: "none"}, nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, slog.New(slog.DiscardHandler))
	c.MustRegister(agent.New(agent.Options{}), hold, log, log.counter, log.tasks, &accesslog.Socket{})
	var rows []string
	for _, collector := range c.all {
		descs := make(chan *prometheus.Desc, 100)
		collector.Describe(descs)
		close(descs)
		for d := range descs {
			m := descText.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			labels := strings.ReplaceAll(m[3], ",", ", ")
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", m[1], labels, strings.ReplaceAll(m[2], `\"`, `"`)))
		}
	}
	slices.Sort(rows)
	want := "<!-- agent: written by go test ./smartstack -run Reference -update -->\n| metric | labels | what |\n|---|---|---|\n" +
		strings.Join(slices.Compact(rows), "\n") + "\n<!-- end -->"
	const file = "../docs/reference/metrics.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)<!-- agent: .*?<!-- end -->`)
	got := block.FindString(string(page))
	if got == want {
		return
	}
	if !*updateDocs {
		t.Errorf("%s is stale; go test ./smartstack -run Reference -update writes it:\n%s", file, want)
		return
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(page), got, want, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

package smartstack

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/plug"
)

func TestHostPlug(t *testing.T) {
	t.Parallel()
	if !paastatest.InNamespace(t) {
		return
	}
	bind := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.255.254")}
	c := sysconfig.Reload{Protect: "nfqueue", Hold: time.Second, Interfaces: []string{"plugbr1"}}
	h := newHostPlug(t.Context(), c, nil, bind, slog.New(slog.DiscardHandler))
	defer h.Close()
	if err := h.p.Check(t.Context()); err != nil {
		t.Errorf("after the start: %v", err)
	}

	// Somebody clears it: the next hold puts it right.
	if err := h.p.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.p.Check(t.Context()); err != nil {
		t.Errorf("after it was cleared: %v", err)
	}

	// A bridge comes and goes.
	for _, step := range []struct{ do, want string }{
		{"ip link add plugbr1 type bridge", "lo plugbr1"},
		{"ip link del plugbr1", "lo"},
	} {
		f := strings.Fields(step.do)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", step.do, err, out)
		}
		if err := h.ensure(t.Context()); err != nil {
			t.Errorf("after %s: %v", step.do, err)
		}
		if got := strings.Join(h.o.Interfaces, " "); got != step.want {
			t.Errorf("after %s the interfaces are %q, want %q", step.do, got, step.want)
		}
	}

	metrics := prometheus.NewRegistry()
	metrics.MustRegister(h)
	if all, err := metrics.Gather(); err != nil || len(all) != 5 {
		t.Errorf("%d metrics, %v, want 5", len(all), err)
	}
}

func TestHostPlugWithoutProtection(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		protect string
		bind    string
	}{
		"none asked for":        {"none", "169.254.255.254"},
		"no link-local address": {"qdisc", "127.0.0.1"},
	} {
		var log bytes.Buffer
		h := newHostPlug(context.Background(), sysconfig.Reload{Protect: tt.protect, Hold: time.Second}, nil,
			[]netip.Addr{netip.MustParseAddr(tt.bind)}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err := h.Hold(t.Context()); err != nil {
			t.Errorf("%s: hold: %v", name, err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("%s: release: %v", name, err)
		}
		if h.p.Name() != plug.None || log.Len() > 0 {
			t.Errorf("%s: %s, and the log says %q", name, h.p.Name(), &log)
		}
	}
}

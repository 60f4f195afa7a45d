package command_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log := command.Logger(&b, slog.LevelInfo)
	log.Debug("nobody reads this")
	log.Warn("lost", "retry_in", 1500*time.Millisecond, "err", errors.New("gone"))
	if got, want := b.String(), `"level":"WARN","msg":"lost","retry_in":"1.5s","err":"gone"}`+"\n"; !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("logged %s, want …%s", got, want)
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	var level slog.Level
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	command.LogLevel(flags, &level)
	if err := flags.Parse([]string{"--log-level", "debug"}); err != nil || level != slog.LevelDebug {
		t.Errorf("level %v, %v", level, err)
	}
	if err := flags.Parse([]string{"--log-level", "loud"}); err == nil || !strings.Contains(err.Error(), `"loud"`) || !strings.Contains(err.Error(), "want debug, info, warn or error") {
		t.Errorf("loud: %v", err)
	}
}

package command

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// NoArgs says that a command that takes only flags was called with more.
func NoArgs(args []string) error {
	if len(args) > 0 {
		return UsageError{Err: fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// LogLevel adds the flag --log-level, which sets level.
func LogLevel(flags *pflag.FlagSet, level *slog.Level) {
	flags.Func("log-level", "log at `LEVEL`: debug, info, warn or error (default info)", func(text string) error {
		if level.UnmarshalText([]byte(text)) != nil {
			return errors.New("want debug, info, warn or error")
		}
		return nil
	})
}

// Logger returns the log of a daemon: a JSON object a line, with durations as
// people write them.
func Logger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		},
	}))
}

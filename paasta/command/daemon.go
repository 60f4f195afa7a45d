package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/sysconfig"
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

// Daemon completes the command of a daemon that listens: it gets --listen, for what
// serves says, and --log-level, and runs with the system config and a log. listen is
// where the config has the address.
func Daemon(c Command, serves, key string, listen func(*sysconfig.Config) *string, run func(context.Context, sysconfig.Config, *slog.Logger) error) Command {
	var address string
	var level slog.Level
	c.Flags = func(flags *pflag.FlagSet) {
		flags.StringVar(&address, "listen", "", serves+" on `ADDR` (host:port); default: "+key+" of the system config")
		LogLevel(flags, &level)
	}
	c.Run = func(ctx context.Context, io IO, args []string) error {
		if err := NoArgs(args); err != nil {
			return err
		}
		config, err := sysconfig.Load()
		if err != nil {
			return err
		}
		if address != "" {
			*listen(&config) = address
		}
		log := Logger(io.Err, level).With("cluster", config.Cluster)
		for _, note := range sysconfig.Notes() {
			log.Info("a key of the system config does nothing", "note", note)
		}
		return run(ctx, config, log)
	}
	return c
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

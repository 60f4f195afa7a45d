package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/command"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	run := func(err error) command.Command {
		return command.Command{Use: "try", Short: "Try", Run: func(context.Context, command.IO, []string) error { return err }}
	}
	for _, tc := range []struct {
		name   string
		args   []string
		err    error
		code   int
		stderr string
	}{
		{"it works", []string{"try"}, nil, 0, ""},
		{"it fails", []string{"try"}, errors.New("no luck"), 1, "paasta: no luck\n"},
		{"it fails and knows what helps", []string{"try"}, fmt.Errorf("outer: %w", command.WithHint(errors.New("no luck"), "luck")), 1, "paasta: outer: no luck\nTry: luck\n"},
		{"the answer is no", []string{"try"}, command.ErrNotHealthy, 3, ""},
		{"called wrongly, says the command", []string{"try"}, command.UsageError{Err: errors.New("what?")}, 2, "paasta: what?\nRun 'paasta try --help' for usage.\n"},
		{"another program's exit code", []string{"try"}, command.ExitError{Code: 17}, 17, ""},
		{"an unknown flag", []string{"try", "--nope"}, nil, 2, "paasta: unknown flag: --nope\nRun 'paasta try --help' for usage.\n"},
		{"an unknown command with flags", []string{"tyr", "-s", "web"}, nil, 2, "paasta: unknown command \"tyr\" (did you mean \"try\"?)\nRun 'paasta --help' for usage.\n"},
		{"an unknown command", []string{"tyr"}, nil, 2, "paasta: unknown command \"tyr\" (did you mean \"try\"?)\nRun 'paasta --help' for usage.\n"},
		{"an unknown subcommand", []string{"playground", "upp"}, nil, 2, "paasta: unknown command \"playground upp\" (did you mean \"up\"?)\nRun 'paasta playground --help' for usage.\n"},
		{"help of an unknown command", []string{"tyr", "--help"}, nil, 2, "paasta: unknown command \"tyr\" (did you mean \"try\"?)\nRun 'paasta --help' for usage.\n"},
		{"help before an unknown command", []string{"-h", "tyr"}, nil, 2, "paasta: unknown command \"tyr\" (did you mean \"try\"?)\nRun 'paasta --help' for usage.\n"},
		{"help about an unknown command", []string{"help", "tyr"}, nil, 2, "paasta: unknown command \"tyr\" (did you mean \"try\"?)\nRun 'paasta help --help' for usage.\n"},
		{"help of an unknown subcommand", []string{"playground", "upp", "--help"}, nil, 2, "paasta: unknown command \"playground upp\" (did you mean \"up\"?)\nRun 'paasta playground --help' for usage.\n"},
		{"help about an unknown subcommand", []string{"help", "playground", "upp"}, nil, 2, "paasta: unknown command \"playground upp\" (did you mean \"up\"?)\nRun 'paasta help --help' for usage.\n"},
		{"help", []string{"--help"}, nil, 0, ""},
		{"help of a command", []string{"playground", "--help"}, nil, 0, ""},
		{"help of a subcommand", []string{"playground", "up", "-h"}, nil, 0, ""},
		{"help about a subcommand", []string{"help", "playground", "up"}, nil, 0, ""},
		{"a name with underscores", []string{"docker_exec", "--help"}, nil, 0, ""},
		{"all that is missing, at once", []string{"mark_for_deployment"}, nil, 2, "paasta: required flag(s) \"commit\", \"deploy-group\", \"service\" not set\nRun 'paasta mark-for-deployment --help' for usage.\n"},
		{"and when something is there", []string{"wait-for-deployment", "--deploy-group", "x"}, nil, 2, "paasta: required flag(s) \"commit\", \"service\" not set\nRun 'paasta wait-for-deployment --help' for usage.\n"},
		{"all that a task's command lacks", []string{"docker_exec"}, nil, 2, "paasta: required flag(s) \"instance\", \"service\" not set\nRun 'paasta docker-exec --help' for usage.\n"},
		{"all that a question lacks", []string{"get-docker-image"}, nil, 2, "paasta: required flag(s) \"deploy-group\", \"service\" not set\nRun 'paasta get-docker-image --help' for usage.\n"},
		{"a flag before the command", []string{"--all", "list"}, nil, 2, "paasta: flags go behind the command: paasta list --all\nRun 'paasta --help' for usage.\n"},
		{"a time that is none", []string{"wait-for-deployment", "-t", "ten"}, nil, 2, "paasta: --timeout: is \"ten\", want a time such as 30s, 10m or 1h, or a number of seconds\nRun 'paasta wait-for-deployment --help' for usage.\n"},
	} {
		env, _, stderr := testEnv()
		code := Main(t.Context(), env, tc.args, run(tc.err))
		if code != tc.code || stderr.String() != tc.stderr {
			t.Errorf("%s: exit %d, stderr %q; want %d, %q", tc.name, code, stderr, tc.code, tc.stderr)
		}
	}
}

func TestInterruptedIs130(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	env, _, _ := testEnv()
	code := Main(ctx, env, []string{"try"}, command.Command{Use: "try", Run: func(ctx context.Context, _ command.IO, _ []string) error {
		cancel()
		return ctx.Err()
	}})
	if code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--version", "-V"} {
		env, out, _ := testEnv()
		if code := Main(t.Context(), env, []string{flag}); code != 0 || out.String() != "paasta test\n" {
			t.Errorf("%s: %d, %q", flag, code, out)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var first string
	for _, args := range [][]string{{"help"}, {"--help"}, {}} {
		env, out, _ := testEnv()
		if code := Main(t.Context(), env, args); code != 0 {
			t.Errorf("%q: exit %d", args, code)
		}
		if first == "" {
			first = out.String()
		}
		if out.String() != first || !strings.Contains(first, "\nLooking:\n  status ") {
			t.Errorf("%q prints:\n%s", args, out)
		}
	}
}

// TestEveryCommandIsExplained holds the commands of this package to the manners:
// one line, a paragraph, examples, and no flag without a word about it.
func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	env, _, _ := testEnv()
	everyCommand(newRoot(env), func(cmd *cobra.Command) {
		if cmd.Hidden || !cmd.HasParent() {
			return
		}
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || strings.Contains(cmd.Short, "\n") {
			t.Errorf("%s: Short should be one line without a full stop: %q", path, cmd.Short)
		}
		if cmd.HasSubCommands() {
			return
		}
		if cmd.Long == "" {
			t.Errorf("%s has no Long", path)
		}
		for line := range strings.Lines(cmd.Example) {
			if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example is not indented by two spaces: %q", path, line)
			}
		}
		for line := range strings.Lines(cmd.LocalFlags().FlagUsages()) {
			if name, text, ok := strings.Cut(strings.TrimSpace(line), "   "); ok && strings.TrimSpace(text) == "" {
				t.Errorf("%s: flag %s says nothing", path, name)
			}
		}
	})
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/cli"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// TestDocsCommands holds every command line of ours in the docs to the commands
// and flags that there are.
func TestDocsCommands(t *testing.T) {
	checked := 0
	for _, p := range pages(t) {
		var lines []string
		for _, b := range p.blocks {
			switch b.language {
			case "sh", "console", "ini":
				lines = append(lines, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
			}
		}
		lines = append(lines, spans(p.prose)...)
		for _, line := range lines {
			for _, args := range commandLines(line) {
				checked++
				if err := understood(t.Context(), args); err != nil {
					t.Errorf("%s: paasta %s: %v", p.name, strings.Join(args, " "), err)
				}
			}
		}
	}
	t.Logf("checked %d command lines", checked)
}

var span = regexp.MustCompile("`([^`]+)`")

// spans are the `code` of a text; one may be broken over two lines.
func spans(text string) []string {
	var all []string
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(m[1], "paasta ") {
			all = append(all, strings.Join(strings.Fields(m[1]), " "))
		}
	}
	return all
}

var (
	// Where a command of ours begins: alone, after a prompt, sudo, another
	// command, or as what a systemd unit starts.
	ours         = regexp.MustCompile(`(?:^|[|&;(]\s*)(?:[$#] )?(?:ExecStart=|ExecStopPost=)?(?:sudo |exec )*(?:/usr/local/bin/|bin/)?paasta ([^|&;]*)`)
	substitution = regexp.MustCompile(`\$\([^)]*\)`)
	comment      = regexp.MustCompile(`\s#\s.*$`)
	word         = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"']+`)
)

// commandLines returns the arguments of each command of ours in a line of a
// shell.
func commandLines(line string) [][]string {
	if strings.Contains(line, "…") || strings.Contains(line, "...") {
		return nil // a manner of speaking
	}
	var all [][]string
	line = substitution.ReplaceAllString(comment.ReplaceAllString(line, ""), "x")
	for _, m := range ours.FindAllStringSubmatch(line, -1) {
		var args []string
		for _, w := range word.FindAllString(strings.NewReplacer("[", "", "]", "").Replace(m[1]), -1) {
			if strings.ContainsAny(strings.TrimLeft(w, "012"), "<>") {
				break // redirected
			}
			args = append(args, strings.Trim(w, `"'`))
		}
		all = append(all, args)
	}
	return all
}

// understood asks the command itself, by --help: flags are parsed, nothing is
// done.
func understood(ctx context.Context, args []string) error {
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") && args[words] == strings.ToLower(args[words]) {
		words++
	}
	given := strings.Join(append([]string{"paasta"}, args[:words]...), " ")
	end := len(args)
	for i, arg := range args {
		if arg == "--" {
			end = i
			break
		}
	}
	asked := append(append([]string{}, args[:end]...), "--help")
	var out, errs bytes.Buffer
	env := &cli.Env{
		In: strings.NewReader(""), Out: &out, Err: &errs, Now: time.Now, Version: "docs",
		Config: func() (sysconfig.Config, error) { return sysconfig.Config{}, errors.New("docs have no config") },
	}
	if code := cli.Main(ctx, env, asked, commands(env)...); code != 0 {
		return fmt.Errorf("exit code %d: %s", code, strings.TrimSpace(errs.String()))
	}
	_, usage, _ := strings.Cut(out.String(), "\nUsage:\n  ")
	usage, _, _ = strings.Cut(usage, "\n")
	if parent, _, is := strings.Cut(usage, " COMMAND [flags]"); is && strings.HasPrefix(given, parent+" ") {
		return fmt.Errorf("%s has no such command", parent)
	}
	return nil
}

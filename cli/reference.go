package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newReference makes docs/reference/cli.md, from what the binary at hand has.
func newReference(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Print the reference of all commands as Markdown",
		Long:   "Print the reference of all commands as Markdown: docs/reference/cli.md.",
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env.printf("%s", reference(cmd.Root()))
			return nil
		},
	}
}

// reference is the whole reference.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(`# Commands

<!-- Written by "paasta reference" (go generate ./paasta/cmd/paasta). Do not edit. -->

Everything is one binary, ` + "`paasta`" + `. Answers go to stdout and everything about
them to stderr. In a pipe there are no colours, no headers and no progress;
columns are separated by tabs and times are RFC 3339. ` + "`--json`" + ` prints what
programs should read. ` + "`NO_COLOR`" + ` is obeyed.

| exit code | means |
|---|---|
| 0 | it worked; the answer is yes |
| 1 | it was tried and failed |
| 2 | it was called wrongly |
| 3 | it worked, and the answer is "not healthy" |
| 130 | it was interrupted |

Settings are read from ` + "`$PAASTA_SYSTEM_CONFIG_DIR`" + ` (default /etc/paasta).
`)
	for _, g := range root.Groups() {
		list := available(root, g.ID)
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", g.Title)
		for _, cmd := range list {
			fmt.Fprintf(&b, "- [`paasta %s`](#%s): %s\n", cmd.Name(), anchor(cmd), cmd.Short)
		}
		for _, cmd := range list {
			section(&b, cmd)
		}
	}
	return b.String()
}

// section writes one command and those below it.
func section(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n```\n%s\n```\n", cmd.CommandPath(), strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short+".")), usageLine(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```sh\n%s\n```\n", unindent(cmd.Example))
	}
	cmd.InitDefaultHelpFlag() // else it is there or not, as the command was run before
	if flags := strings.TrimRight(cmd.LocalFlags().FlagUsages(), "\n"); flags != "" {
		fmt.Fprintf(b, "\nFlags:\n\n```\n%s\n```\n", flags)
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			section(b, sub)
		}
	}
}

func anchor(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-")
}

// unindent takes the two spaces from the lines of an example.
func unindent(s string) string {
	var lines []string
	for line := range strings.Lines(strings.Trim(s, "\n")) {
		lines = append(lines, strings.TrimPrefix(strings.TrimRight(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}

package cli

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"
)

// A group is a heading of the help and the commands below it.
type group struct {
	id, title string
	commands  []func(*Env) *cobra.Command
}

// groups are the commands of this package, in the order of the help. A new
// command is one file with one newX and one line here.
var groups = []group{
	{"deploy", "Deploying", []func(*Env) *cobra.Command{
		newMarkForDeployment, newWaitForDeployment, newRollback, newStart, newStop, newRestart,
		newGetLatestDeployment, newListDeployments,
	}},
	{"look", "Looking", []func(*Env) *cobra.Command{
		newStatus, newLogs, newMetrics, newInfo, newList, newListClusters,
		newDockerExec, newDockerInspect, newDockerStop,
	}},
	{"build", "Building and checking", []func(*Env) *cobra.Command{
		newCookImage, newItest, newSecurityCheck, newPushToRegistry, newPerformanceCheck, newGetDockerImage, newValidate,
	}},
	{"local", "Running locally", []func(*Env) *cobra.Command{
		newLocalRun, newTestDeps, newPlayground, newDemo,
	}},
	// The daemons of the other trees come into this group as well.
	{operating, "Operating", []func(*Env) *cobra.Command{
		newCompletion, newReference, newGenerateDeployments, newGitHook,
	}},
}

const operating = "operate"

// These are cobra's globals, so they are set once. The help keeps the order of
// groups.
func init() {
	cobra.EnableCommandSorting = false
	cobra.AddTemplateFunc("usageLine", usageLine)
}

func newRoot(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "paasta",
		Short: "Deploy services and see how they are",
		Long: `PaaSTA runs services: a git tag says which commit, soa-configs say where and
how many, and paasta does the rest.`,
		Example: `  paasta status -s web
  paasta mark-for-deployment -s web -l prod -c "$(git rev-parse HEAD)" --wait-for-deployment`,
		Version:           env.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.Flags().BoolP("version", "V", false, "print the version")
	// These may stand before the command as well: cobra hands them on to it when
	// it knows that the next word is not their value.
	root.Flags().Bool("json", false, "print the answer as JSON")
	root.Flags().CountP("verbose", "v", "say more")
	for _, name := range []string{"json", "verbose"} {
		must(root.Flags().MarkHidden(name))
	}
	root.SetUsageTemplate(usage)
	root.SetVersionTemplate("paasta {{.Version}}\n")
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, newCommand := range g.commands {
			cmd := newCommand(env)
			cmd.GroupID = g.id
			everyCommand(cmd, func(cmd *cobra.Command) {
				if cmd.Args == nil && cmd.RunE != nil {
					cmd.Args = noArgs
				}
			})
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID(operating)
	return root
}

// parents makes a command that only groups others say so when it is called
// with a word it does not know, where cobra would print its help and succeed.
func parents(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		parents(sub)
	}
	if !cmd.HasSubCommands() || cmd.RunE != nil {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
}

// newHelp makes "paasta help", which cobra's own would have show the help of
// paasta for what it does not know.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// unknownWord is the first word among args when cmd has subcommands and it is
// none of them; "" otherwise.
func unknownWord(cmd *cobra.Command, args []string) string {
	if !cmd.HasSubCommands() {
		return ""
	}
	for _, word := range args {
		if strings.HasPrefix(word, "-") {
			continue
		}
		if sub, _, err := cmd.Find([]string{word}); err != nil || sub == cmd {
			return word
		}
		return ""
	}
	return ""
}

// helpText is what --help prints.
func helpText(cmd *cobra.Command) string {
	return strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short+".")) + "\n\n" + cmd.UsageString()
}

// usage is the template of what follows the words about a command.
const usage = `Usage:
  {{usageLine .}}{{if .HasExample}}

Examples:
{{trimTrailingWhitespaces .Example}}{{end}}{{if .HasAvailableSubCommands}}{{range $group := .Groups}}

{{.Title}}:{{range $.Commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name 24}} {{.Short}}{{end}}{{end}}{{else}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name 24}} {{.Short}}{{end}}{{end}}{{end}}{{end}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{if .HasAvailableSubCommands}}
'{{.CommandPath}} COMMAND --help' tells more.
{{end}}`

// available lists the subcommands of a group that the help shows.
func available(cmd *cobra.Command, group string) []*cobra.Command {
	var list []*cobra.Command
	for _, c := range cmd.Commands() {
		if c.GroupID == group && c.IsAvailableCommand() {
			list = append(list, c)
		}
	}
	return list
}

func usageLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND [flags]"
	}
	return cmd.UseLine()
}

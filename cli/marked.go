package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// newMarked makes a command that prints something about the commit that is
// marked for a deploy group: what show returns of it. Use, Short, Long and
// Example are the caller's. missing is the error's text when nothing is marked,
// with verbs for the service and the deploy group.
func newMarked(env *Env, cmd *cobra.Command, missing string, show func(s *soaconfig.Service, sha string) (string, error)) *cobra.Command {
	var service, group, gitURL, soaDir string
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := env.soaDir(soaDir)
		if err != nil {
			return err
		}
		s, err := env.loadService(dir, serviceName(service))
		if err != nil {
			return err
		}
		if group == "" {
			return usagef("--deploy-group is required")
		}
		tag, found, err := env.marked(cmd.Context(), s, group, gitURL)
		if err != nil {
			return err
		}
		if !found {
			if err := checkGroup(s, group); err != nil {
				return err
			}
			return command.WithHint(fmt.Errorf(missing, s.Name, group),
				fmt.Sprintf("paasta mark-for-deployment -s %s -l %s -c COMMIT", s.Name, group))
		}
		text, err := show(s, tag.SHA)
		if err != nil {
			return err
		}
		env.printf("%s\n", text)
		return nil
	}
	serviceFlag(cmd, env, &service)
	deployGroupFlag(cmd, env, &group)
	cmd.Flags().StringVarP(&group, "instance", "i", "", "the same as --deploy-group")
	_ = cmd.Flags().MarkHidden("instance") // the flag is there: it was added above
	gitURLFlag(cmd, &gitURL)
	soaDirFlag(cmd, &soaDir)
	return cmd
}

// marked is the latest tag of a deploy group, as the service's repository says
// now.
func (env *Env) marked(ctx context.Context, s *soaconfig.Service, group, gitURL string) (tag paasta.Tag, found bool, err error) {
	r, err := env.remote(s, gitURL)
	if err != nil {
		return tag, false, err
	}
	log, err := tagLog(ctx, r)
	if err != nil {
		return tag, false, err
	}
	tag, found = log.Latest(group)
	return tag, found, nil
}

package cli

import (
	"context"
	"fmt"
	"time"

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
	var asJSON bool
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := loadService(env, soaDir, service)
		if err != nil {
			return err
		}
		tag, found, err := latestMarked(cmd.Context(), env, s, group, gitURL)
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
		if asJSON {
			answer := latest{Service: s.Name, DeployGroup: group, GitSHA: tag.SHA, Time: tag.Time}
			if text != tag.SHA {
				answer.DockerImage = text
			}
			return env.printJSON(answer)
		}
		env.printf("%s\n", text)
		return nil
	}
	serviceFlag(cmd, env, &service)
	deployGroupFlag(cmd, env, &group)
	hiddenAlias(cmd, "instance", "i", "deploy-group")
	gitURLFlag(cmd, &gitURL)
	soaDirFlag(cmd, &soaDir)
	cmd.Flags().BoolVarP(&asJSON, "json", "j", false, "print the answer as JSON")
	require(cmd, "deploy-group")
	return cmd
}

// A latest is the answer of get-latest-deployment and get-docker-image --json.
type latest struct {
	Service     string    `json:"service"`
	DeployGroup string    `json:"deploy_group"`
	GitSHA      string    `json:"git_sha"`
	Time        time.Time `json:"time"` // when it was marked
	DockerImage string    `json:"docker_image,omitempty"`
}

// latestMarked is the latest tag of a deploy group, as the service's repository says
// now.
func latestMarked(ctx context.Context, env *Env, s *soaconfig.Service, group, gitURL string) (tag paasta.Tag, found bool, err error) {
	_, log, err := readTags(ctx, env, s, gitURL)
	if err != nil {
		return tag, false, err
	}
	tag, found = log.Latest(group)
	return tag, found, nil
}

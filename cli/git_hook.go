package cli

import (
	_ "embed"
	"net/url"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

//go:embed post-receive.sh.tmpl
var hookText string

var hookTemplate = template.Must(template.New("post-receive").Parse(hookText))

func newGitHook(env *Env) *cobra.Command {
	var service, tokenFile string
	var apis []string
	cmd := &cobra.Command{
		Use:   "git-hook --service SERVICE --api URL",
		Short: "Print a post-receive hook for a service's repository",
		Long: `Print a post-receive hook, a plain shell script, for the repository of a service.
It tells PaaSTA at once of every deploy, start or stop tag that is pushed, also
by plain git. Give one --api for each cluster.`,
		Example: `  paasta git-hook -s web --api http://paasta.example:5054 > web.git/hooks/post-receive
  chmod +x web.git/hooks/post-receive`,
		RunE: func(*cobra.Command, []string) error {
			for i, api := range apis {
				u, err := url.Parse(api)
				if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(api, "' \t\n") {
					return usagef("--api %q is no URL like http://HOST:PORT", api)
				}
				apis[i] = strings.TrimRight(api, "/")
			}
			if strings.ContainsAny(service+tokenFile, "'\n") || strings.ContainsAny(service, "/ ") {
				return usagef("--service and --token-file may hold no quotes, spaces or slashes")
			}
			return hookTemplate.Execute(env.Out, struct {
				Service, TokenFile string
				APIs               []string
			}{service, tokenFile, apis})
		},
	}
	serviceFlag(cmd, env, &service)
	cmd.Flags().StringArrayVar(&apis, "api", nil, "the `URL` of a cluster's API, as the git server reaches it; may be given several times")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "a `FILE` at the git server that holds the API's token")
	require(cmd, "service", "api")
	return cmd
}

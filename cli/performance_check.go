package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func newPerformanceCheck(env *Env) *cobra.Command {
	var service, commit, soaDir string
	cmd := &cobra.Command{
		Use:   "performance-check [-s SERVICE]",
		Short: "Ask for a performance check of a service",
		Long: `Send the parameters of the service's performance-check.yaml to its endpoint. What
goes wrong is said and does not stop a pipeline: the exit code is 0 all the same.`,
		Example: `  paasta performance-check -s web
  cd web && paasta performance-check`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadService(env, soaDir, service)
			if err != nil {
				return err
			}
			if err := performanceCheck(cmd.Context(), env, s); err != nil {
				if cmd.Context().Err() != nil {
					return err
				}
				env.notef("paasta: warning: performance check of %s: %v", s.Name, err)
			}
			return nil
		},
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &soaDir)
	commitFlag(cmd, &commit)
	for _, name := range []string{"commit", "sha"} {
		must(cmd.Flags().MarkHidden(name)) // PaaSTA's pipelines give it; nothing uses it
	}
	return cmd
}

func performanceCheck(ctx context.Context, env *Env, s *soaconfig.Service) error {
	c, found, err := soaconfig.ReadPerformanceCheck(s.Dir)
	if err != nil {
		return err
	}
	if !found {
		env.notef("No performance-check.yaml. Skipping performance-check.")
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("endpoint %q is no URL", c.Endpoint)
	}
	q := u.Query()
	for key, value := range c.Parameters {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, v := range values {
			q.Add(key, fmt.Sprint(v))
		}
	}
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode > 299 {
		return fmt.Errorf("POST %s: %s", c.Endpoint, resp.Status)
	}
	env.notef("asked %s for a performance check of %s", c.Endpoint, s.Name)
	return nil
}

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func newGenerateDeployments(env *Env) *cobra.Command {
	var service, gitURL, soaDir string
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "generate-deployments [-s SERVICE]",
		Short: "Write deployments.json from the tags",
		Long: `Write the deployments.json of a service, or of all services, into soa-configs:
what its tags say that each instance should run. A file whose content does not
change is not touched, nor is that of a service whose tags cannot be read; then
it exits 1, as it does for an instance that is broken in soa-configs, which keeps
what it had. deployd reads the tags itself and needs this only with
"deployments: file" in the system config.`,
		Example: `  paasta generate-deployments
  paasta generate-deployments -s web --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return generateDeployments(cmd.Context(), env, service, gitURL, soaDir, dryRun, asJSON)
		},
	}
	// Not serviceFlag: without it, all services.
	cmd.Flags().StringVarP(&service, "service", "s", "", "only this `SERVICE`; default: all")
	complete(cmd, "service", completeServices(env))
	gitURLFlag(cmd, &gitURL)
	soaDirFlag(cmd, &soaDir)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say which files would change")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func generateDeployments(ctx context.Context, env *Env, service, gitURL, soaDir string, dryRun, asJSON bool) error {
	dir, err := env.soaDir(soaDir)
	if err != nil {
		return err
	}
	names := []string{service}
	if service != "" {
		if _, err := findService(env, dir, service); err != nil {
			return err
		}
	} else if names, err = serviceNames(dir); err != nil {
		return err
	} else if gitURL != "" {
		return usagef("--git-url needs --service")
	}
	changed, errs := make([]bool, len(names)), make([]error, len(names))
	room := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for n, name := range names {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			changed[n], errs[n] = writeDeployments(ctx, env, dir, name, gitURL, dryRun)
			if errs[n] != nil {
				errs[n] = fmt.Errorf("deployments of %s: %w", name, errs[n])
			}
		})
	}
	wg.Wait()
	written := []string{}
	for n, name := range names {
		if changed[n] {
			written = append(written, filepath.Join(dir, name, "deployments.json"))
		}
	}
	if asJSON {
		errs = append(errs, env.printJSON(map[string]any{"changed": written, "dry_run": dryRun}))
	} else if len(written) > 0 {
		env.printf("%s\n", strings.Join(written, "\n"))
	}
	return joined(errs)
}

// writeDeployments writes the file of one service if it changes.
func writeDeployments(ctx context.Context, env *Env, dir, name, gitURL string, dryRun bool) (changed bool, err error) {
	s, err := soaconfig.LoadService(dir, name, soaconfig.Options{})
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, name, "deployments.json")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if len(s.Instances) == 0 && len(s.Adhoc) == 0 && old == nil {
		return false, nil // not one of ours
	}
	_, log, err := readTags(ctx, env, s, gitURL)
	if err != nil {
		return false, err
	}
	f := deployments.Generate(s, log)
	if before, err := deployments.Decode(old); err == nil {
		f.Keep(s, before)
	}
	// An instance that is broken keeps what it had, or is not in the file.
	err = brokenIn(s).Err()
	if len(f.V2.Controls) == 0 && old == nil {
		if err == nil {
			env.notef("%s: nothing is marked for deployment yet, so there is no deployments.json", name)
		}
		return false, err
	}
	text := deployments.Encode(f)
	if bytes.Equal(text, old) {
		return false, err
	}
	if dryRun {
		return true, err
	}
	return true, errors.Join(err, atomicfile.Write(path, text, 0o644))
}

// brokenIn returns what keeps instances out of deployments.json.
func brokenIn(s *soaconfig.Service) soaconfig.Problems {
	problems := slices.Clone(s.Unreadable)
	for _, kind := range []map[string]soaconfig.Entries[soaconfig.Instance]{s.Instances, s.Adhoc} {
		for _, cluster := range slices.Sorted(maps.Keys(kind)) {
			problems = append(problems, kind[cluster].Unreadable...)
			for _, name := range slices.Sorted(maps.Keys(kind[cluster].Invalid)) {
				problems = append(problems, kind[cluster].Invalid[name]...)
			}
		}
	}
	return problems
}

package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

type validateFlags struct {
	service, soaDir, schema string
	all, json, system       bool
	verbose                 int
}

func newValidate(env *Env) *cobra.Command {
	var f validateFlags
	cmd := &cobra.Command{
		Use:   "validate [-s SERVICE | --all | --system] [-y DIR]",
		Short: "Check soa-configs",
		Long: `Check soa-configs, and report every mistake with its file, line and column. What is
broken cannot run, and stays as it is until that is mended. What is wrong stops no
deployment. Both make the command fail; a note, for instance about a key that does
nothing here, does not.

Without flags it checks the service whose directory is the current one, or, in a directory
of services, all of them. The clusters that may have files are those of the system config,
where there is one.

With --system it checks this machine's system config instead, and notes the keys in it
that nothing reads, such as those of PaaSTA itself.`,
		Example: `  paasta validate -s web -y ~/soa-configs
  paasta validate --all -y soa-configs --json
  paasta validate --system
  paasta validate --schema marathon > marathon.schema.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.schema != "" {
				text, err := soaconfig.Schema(f.schema)
				if err != nil {
					return usagef("%w", err)
				}
				env.printf("%s", text)
				return nil
			}
			if f.system {
				return validateSystem(env, f.json)
			}
			return validate(cmd.Context(), env, f)
		},
	}
	serviceFlag(cmd, env, &f.service)
	soaDirFlag(cmd, &f.soaDir)
	jsonFlag(cmd, &f.json)
	cmd.Flags().CountVarP(&f.verbose, "verbose", "v", "also say of each service that is checked what instances it has where")
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "check every service")
	cmd.Flags().StringVar(&f.schema, "schema", "", "print the JSON Schema `NAME` for editors: "+strings.Join(soaconfig.Schemas(), ", "))
	complete(cmd, "schema", completeNames(func(*cobra.Command) []string { return soaconfig.Schemas() }))
	cmd.Flags().BoolVar(&f.system, "system", false, "check the system config of this machine")
	cmd.MarkFlagsMutuallyExclusive("service", "all", "system")
	return cmd
}

// A validation is the answer of validate --json.
type validation struct {
	Valid    bool               `json:"valid"`
	Services int                `json:"services"` // that were checked
	Problems soaconfig.Problems `json:"problems"`
	Notes    soaconfig.Problems `json:"notes,omitempty"` // no mistakes, e.g. keys that do nothing
}

func validate(ctx context.Context, env *Env, f validateFlags) error {
	dir, service, err := validated(env, f)
	if err != nil {
		return err
	}
	config, err := env.Config()
	if err != nil {
		return err
	}
	var options soaconfig.Options
	if len(config.Clusters) > 0 {
		options.Clusters = config.Clusters
	}
	// One service is checked among all, for a proxy_port that two have.
	tree, err := loadTree(ctx, dir, options)
	if err != nil {
		return err
	}
	answer := validation{Services: len(tree.Services), Problems: tree.Problems}
	if service != "" {
		s, ok := tree.Services[service]
		if !ok {
			path := filepath.Join(dir, service)
			for _, p := range tree.Problems {
				if p.File == path { // not even its name is sound
					return fmt.Errorf("%s", p)
				}
			}
			names, err := soaconfig.Names(dir)
			if err != nil {
				return err
			}
			return unknown("service", service, dir, names)
		}
		answer = validation{Services: 1, Problems: s.Problems, Notes: s.Notes}
	} else {
		for _, name := range slices.Sorted(maps.Keys(tree.Services)) {
			answer.Notes = append(answer.Notes, tree.Services[name].Notes...)
		}
	}
	if len(answer.Problems) == 0 {
		answer.Problems = soaconfig.Problems{} // [] and not null
		answer.Valid = true
	}
	answer.Problems, answer.Notes = relativePaths(env, answer.Problems), relativePaths(env, answer.Notes)
	if f.json {
		if err := env.printJSON(answer); err != nil {
			return err
		}
	} else {
		for _, p := range answer.Problems {
			env.printf("%s\n", p.ClassLine())
		}
		for _, n := range answer.Notes {
			env.notef("note: %s", n)
		}
	}
	if f.verbose > 0 {
		for _, name := range slices.Sorted(maps.Keys(tree.Services)) {
			if s := tree.Services[name]; service == "" || service == name {
				for _, cluster := range s.Clusters {
					env.notef("checked %s in %s: %s", name, cluster, strings.Join(instancesOf(s, []string{cluster}), ", "))
				}
			}
		}
	}
	if !answer.Valid {
		effect := "none of them stops a deployment"
		if broken := len(answer.Problems.Of(soaconfig.Broken)); broken > 0 {
			effect = fmt.Sprintf("%d of them for something that cannot run and stays as it is", broken)
		}
		env.notef("paasta: %s in %s, %s", plural(len(answer.Problems), "problem"), filepath.Join(dir, service), effect)
		return command.ExitError{Code: exitFailed}
	}
	env.notef("%s in %s: no problems", plural(answer.Services, "service"), filepath.Join(dir, service))
	return nil
}

// A systemValidation is the answer of validate --system --json.
type systemValidation struct {
	Valid bool     `json:"valid"`
	Error string   `json:"error,omitempty"` // every mistake, one a line
	Notes []string `json:"notes"`           // keys that nothing reads
}

func validateSystem(env *Env, asJSON bool) error {
	_, err := env.Config()
	answer := systemValidation{Valid: err == nil, Notes: append([]string{}, sysconfig.Notes()...)}
	if asJSON {
		if err != nil {
			answer.Error = err.Error()
		}
		if err := env.printJSON(answer); err != nil {
			return err
		}
		if !answer.Valid {
			return command.ExitError{Code: exitFailed}
		}
		return nil
	}
	for _, note := range answer.Notes {
		env.notef("note: %s", note)
	}
	if err != nil {
		return err
	}
	env.notef("%s: no problems", sysconfig.Dir())
	return nil
}

// validated finds out what to check: the directory of services, and the one
// service in it, "" for all.
func validated(env *Env, f validateFlags) (dir, service string, err error) {
	here, err := env.getwd()
	if err != nil {
		return "", "", err
	}
	switch {
	case f.service != "" && strings.ContainsAny(f.service, "./"):
		return "", "", usagef("%q is no name of a service", f.service)
	case f.soaDir != "" && (f.service != "" || f.all):
		return f.soaDir, f.service, nil
	case f.soaDir != "" && isServiceDir(f.soaDir):
		abs, err := filepath.Abs(f.soaDir)
		if err != nil {
			return "", "", fmt.Errorf("find %s: %w", f.soaDir, err)
		}
		return filepath.Dir(abs), filepath.Base(abs), nil
	case f.soaDir != "":
		return f.soaDir, "", nil
	case f.service != "" && isServiceDir(filepath.Join(here, f.service)):
		return here, f.service, nil
	case f.service == "" && !f.all && isServiceDir(here):
		return filepath.Dir(here), filepath.Base(here), nil
	case f.service == "" && holdsServices(here):
		return here, "", nil
	case f.service == "" && !f.all:
		return "", "", usagef("neither %s nor the directories in it hold soa-configs: give --service, --all or --soa-dir", here)
	}
	dir, err = env.soaDir("")
	return dir, f.service, err
}

// isServiceDir tells whether dir has files of soa-configs.
func isServiceDir(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		switch name := e.Name(); name {
		case "service.yaml", "smartstack.yaml", "deploy.yaml", "monitoring.yaml", "dependencies.yaml", "test-dependencies.yaml":
			return true
		default:
			instances := strings.HasPrefix(name, "marathon-") || strings.HasPrefix(name, "adhoc-")
			return instances && strings.HasSuffix(name, ".yaml")
		}
	})
}

func holdsServices(dir string) bool {
	names, err := soaconfig.Names(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool { return isServiceDir(filepath.Join(dir, name)) })
}

// relativePaths makes paths below the current directory relative to it.
func relativePaths(env *Env, problems soaconfig.Problems) soaconfig.Problems {
	here, err := env.getwd()
	if err != nil {
		return problems
	}
	short := slices.Clone(problems)
	for i, p := range short {
		if rel, err := filepath.Rel(here, p.File); filepath.IsAbs(p.File) && err == nil && !strings.HasPrefix(rel, "..") {
			short[i].File = rel
		}
	}
	return short
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// The flags that many commands share, each with its shell completion. A flag
// of another command with the same meaning must use these.

// serviceFlag adds -s/--service. Resolve it with findService.
func serviceFlag(cmd *cobra.Command, env *Env, f *string) {
	cmd.Flags().StringVarP(f, "service", "s", "", "the `SERVICE`; default: the name of the current directory")
	complete(cmd, "service", completeServices(env))
}

// instancesFlag adds -i/--instances, a list.
func instancesFlag(cmd *cobra.Command, env *Env, f *[]string) {
	cmd.Flags().StringSliceVarP(f, "instances", "i", nil, "only these `INSTANCES`, separated by commas; default: all")
	complete(cmd, "instances", completeInstances(env))
}

// clustersFlag adds -c/--clusters, a list.
func clustersFlag(cmd *cobra.Command, env *Env, f *[]string) {
	cmd.Flags().StringSliceVarP(f, "clusters", "c", nil, "only these `CLUSTERS`, separated by commas; default: all")
	complete(cmd, "clusters", completeClusters(env))
}

// deployGroupFlag adds -l/--deploy-group.
func deployGroupFlag(cmd *cobra.Command, env *Env, f *string) {
	cmd.Flags().StringVarP(f, "deploy-group", "l", "", "the deploy `GROUP`")
	complete(cmd, "deploy-group", completeDeployGroups(env))
}

// deployGroupsFlag adds -l/--deploy-groups, a list.
func deployGroupsFlag(cmd *cobra.Command, env *Env, f *[]string) {
	cmd.Flags().StringSliceVarP(f, "deploy-groups", "l", nil, "only these deploy `GROUPS`, separated by commas; default: all")
	complete(cmd, "deploy-groups", completeDeployGroups(env))
}

// soaDirFlag adds -d/--soa-dir, and PaaSTA's other name for it,
// -y/--yelpsoa-config-root. Resolve it with env.soaDir.
func soaDirFlag(cmd *cobra.Command, f *string) {
	cmd.Flags().StringVarP(f, "soa-dir", "d", "", "read soa-configs from `DIR`; default: soa_dir of the system config")
	soaDirAlias(cmd)
}

// soaDirAlias adds the other name for --soa-dir.
func soaDirAlias(cmd *cobra.Command) {
	alias(cmd, "yelpsoa-config-root", "y", "soa-dir")
	for _, name := range []string{"soa-dir", "yelpsoa-config-root"} {
		must(cmd.MarkFlagDirname(name))
	}
}

// dryRunFlag adds --dry-run.
func dryRunFlag(cmd *cobra.Command, f *bool) {
	cmd.Flags().BoolVar(f, "dry-run", false, "say what would be done")
}

// timeoutFlag adds --timeout, an hour.
func timeoutFlag(cmd *cobra.Command, f *time.Duration, short, usage string) {
	cmd.Flags().DurationVarP(f, "timeout", short, time.Hour, usage+" this `TIME`: 10m, or a number of seconds")
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command, f *bool) {
	cmd.Flags().BoolVar(f, "json", false, "print the answer as JSON")
}

// complete sets the completion of a flag that was just added.
func complete(cmd *cobra.Command, flag string, f completion) {
	must(cmd.RegisterFlagCompletionFunc(flag, f))
}

// must is for what cobra refuses only when the flag was not added before.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// require has cobra refuse a call without these flags, and name all of them.
func require(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		must(cmd.MarkFlagRequired(name))
	}
}

// requireService makes --service one of the flags that a call lacks, when it
// lacks others as well and the current directory is not named after a service.
func requireService(env *Env, cmd *cobra.Command) {
	f := cmd.Flags().Lookup("service")
	if f == nil || f.Changed || cmd.ValidateRequiredFlags() == nil {
		return
	}
	if dir, err := env.soaDir(flagText(cmd, "soa-dir")); err == nil {
		if _, err := findService(env, dir, ""); err != nil {
			require(cmd, "service")
		}
	}
}

// usagef is an error about how a command was called.
func usagef(format string, args ...any) error {
	return command.UsageError{Err: fmt.Errorf(format, args...)}
}

// soaDir returns the directory of soa-configs: what the flag says, or the
// system config.
func (env *Env) soaDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	c, err := env.Config()
	if err != nil {
		return "", err
	}
	return c.SoaDir, nil
}

// findService returns the service that a command is about: the one of the flag,
// which must exist in dir, or else the one that the current directory is named
// after.
func findService(env *Env, dir, flag string) (string, error) {
	names, err := serviceNames(dir)
	if err != nil {
		return "", err
	}
	// PaaSTA's pipelines put "services-" before a service's name.
	if name := strings.TrimPrefix(flag, "services-"); !slices.Contains(names, flag) && slices.Contains(names, name) {
		return name, nil
	}
	if flag != "" {
		if !slices.Contains(names, flag) {
			return "", command.WithHint(unknown("service", flag, dir, names), "paasta list --all")
		}
		return flag, nil
	}
	here, err := env.getwd()
	if err != nil {
		return "", err
	}
	if name := filepath.Base(here); slices.Contains(names, name) {
		return name, nil
	}
	return "", usagef("no --service given, and the current directory (%s) is not named after a service of %s", here, dir)
}

// whereSoaConfigs is what helps when their directory cannot be read.
const whereSoaConfigs = "say where your soa-configs are: --soa-dir DIR, PAASTA_SOA_DIR, or soa_dir in the system config"

// serviceNames lists the services of dir.
func serviceNames(dir string) ([]string, error) {
	names, err := soaconfig.Names(dir)
	return names, command.WithHint(err, whereSoaConfigs)
}

// loadTree reads all services of dir. Problems in their files are in the tree.
func loadTree(ctx context.Context, dir string, o soaconfig.Options) (*soaconfig.Tree, error) {
	tree, err := soaconfig.Load(ctx, dir, o)
	return tree, command.WithHint(err, whereSoaConfigs)
}

// loadService reads the service that a command is about: the one that soaDir
// and service find. Problems in its files are for "paasta validate" to tell.
func loadService(env *Env, soaDir, service string) (*soaconfig.Service, error) {
	dir, err := env.soaDir(soaDir)
	if err != nil {
		return nil, err
	}
	name, err := findService(env, dir, service)
	if err != nil {
		return nil, err
	}
	return soaconfig.LoadService(dir, name, soaconfig.Options{})
}

func (env *Env) getwd() (string, error) {
	getwd := env.Getwd
	if getwd == nil {
		getwd = os.Getwd
	}
	dir, err := getwd()
	if err != nil {
		return "", fmt.Errorf("find the current directory: %w", err)
	}
	return dir, nil
}

// instancesOf lists the instances of a service in the given clusters (nil: all
// of its own), sorted, broken ones too.
func instancesOf(s *soaconfig.Service, clusters []string) []string {
	if clusters == nil {
		clusters = s.Clusters
	}
	var names []string
	for _, c := range clusters {
		e := s.Instances[c]
		for name := range e.Valid {
			names = append(names, name)
		}
		for name := range e.Invalid {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// deployGroupsOf lists the deploy groups that a service uses, sorted.
func deployGroupsOf(s *soaconfig.Service) []string {
	groups := s.Deploy.Groups()
	for _, e := range s.Instances {
		for _, i := range e.Valid {
			groups = append(groups, i.DeployGroup)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// checkNames is a usage error when one of names is not among known.
func checkNames(kind string, names []string, where string, known []string) error {
	var errs []error
	for _, n := range names {
		if !slices.Contains(known, n) {
			errs = append(errs, unknown(kind, n, where, known))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	err := errors.Join(errs...)
	if h, ok := errors.AsType[command.HintedError](errs[0]); ok {
		return command.WithHint(err, h.Hint)
	}
	return err
}

// clusterOrDefault returns the one cluster that a command works with: the flag's, the
// only one that the service is in, or the system config's.
func clusterOrDefault(env *Env, flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	c, err := env.Config()
	if err != nil {
		return "", err
	}
	if cluster := cmp.Or(c.DefaultLocalCluster, c.Cluster); cluster != "" {
		return cluster, nil
	}
	return "", usagef("no --cluster given, and the system config names none")
}

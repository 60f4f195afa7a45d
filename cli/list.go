package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

type listFlags struct {
	soaDir         string
	clusters       []string
	all, instances bool
	json           bool
}

func newList(env *Env) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "list [--all] [--print-instances]",
		Short: "List services",
		Long: `List the services of soa-configs that have instances, or, with --print-instances,
the instances.`,
		Example: `  paasta list
  paasta list --print-instances -c norcal-prod`,
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.Context(), env, f) },
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "list every service, also those without instances")
	cmd.Flags().BoolVarP(&f.instances, "print-instances", "i", false, "list SERVICE.INSTANCE")
	clustersFlag(cmd, env, &f.clusters)
	soaDirFlag(cmd, &f.soaDir)
	jsonFlag(cmd, &f.json)
	cmd.MarkFlagsMutuallyExclusive("all", "print-instances")
	return cmd
}

// A listed is one line of list --json.
type listed struct {
	Service   string              `json:"service"`
	Instances map[string][]string `json:"instances"` // by cluster
}

func list(ctx context.Context, env *Env, f listFlags) error {
	dir, err := env.soaDir(f.soaDir)
	if err != nil {
		return err
	}
	if f.all && !f.json && len(f.clusters) == 0 {
		names, err := serviceNames(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			env.printf("%s\n", name)
		}
		return nil
	}
	tree, err := loadTree(ctx, dir, soaconfig.Options{})
	if err != nil {
		return err
	}
	if err := checkNames("cluster", f.clusters, dir, clustersOf(tree)); err != nil {
		return err
	}
	services := []listed{}
	for _, name := range sortedNames(tree) {
		svc := tree.Services[name]
		l := listed{Service: name, Instances: map[string][]string{}}
		for _, c := range svc.Clusters {
			if names := instancesOf(svc, []string{c}); len(names) > 0 && isAmong(c, f.clusters) {
				l.Instances[c] = names
			}
		}
		if f.all || len(l.Instances) > 0 {
			services = append(services, l)
		}
	}
	if f.json {
		return env.printJSON(services)
	}
	for _, l := range services {
		if !f.instances {
			env.printf("%s\n", l.Service)
			continue
		}
		clusters := tree.Services[l.Service].Clusters
		if len(f.clusters) > 0 {
			clusters = f.clusters
		}
		for _, name := range instancesOf(tree.Services[l.Service], clusters) {
			env.printf("%s.%s\n", l.Service, name)
		}
	}
	return nil
}

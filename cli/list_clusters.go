package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func newListClusters(env *Env) *cobra.Command {
	var dir string
	var json bool
	cmd := &cobra.Command{
		Use:   "list-clusters",
		Short: "List clusters",
		Long: `List the clusters that this system knows: those of the system config, and those
that soa-configs have files for. On a terminal it says which have an API that
commands can ask.`,
		Example: `  paasta list-clusters
  paasta list-clusters --json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return listClusters(cmd.Context(), env, dir, json) },
	}
	soaDirFlag(cmd, &dir)
	jsonFlag(cmd, &json)
	return cmd
}

// A clusterLine is one line of list-clusters --json.
type clusterLine struct {
	Cluster  string `json:"cluster"`
	API      string `json:"api"`      // URL, "" when unknown
	Services int    `json:"services"` // with a file for it
}

func listClusters(ctx context.Context, env *Env, soaDir string, json bool) error {
	c, err := env.Config()
	if err != nil {
		return err
	}
	dir, err := env.soaDir(soaDir)
	if err != nil {
		return err
	}
	tree, err := loadTree(ctx, dir, soaconfig.Options{})
	if err != nil {
		return err
	}
	services := map[string]int{}
	for _, svc := range tree.Services {
		for _, cluster := range svc.Clusters {
			services[cluster]++
		}
	}
	names := append(clustersOf(tree), c.Clusters...)
	slices.Sort(names)
	lines := []clusterLine{}
	for _, name := range slices.Compact(names) {
		lines = append(lines, clusterLine{name, c.APIEndpoints[name], services[name]})
	}
	if json {
		return env.printJSON(lines)
	}
	t := newTable(env, "CLUSTER", "API", "SERVICES")
	for _, l := range lines {
		if env.TTY {
			t.row(l.Cluster, orDash(l.API), fmt.Sprint(l.Services))
		} else {
			t.row(l.Cluster) // one a line, as scripts expect it
		}
	}
	t.print()
	return nil
}

// clustersOf lists the clusters that a tree has files for, sorted.
func clustersOf(tree *soaconfig.Tree) []string {
	var names []string
	for _, svc := range tree.Services {
		names = append(names, svc.Clusters...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func sortedNames(tree *soaconfig.Tree) []string { return slices.Sorted(maps.Keys(tree.Services)) }

// isAmong tells whether a filter lets a value through; an empty one lets all.
func isAmong(value string, filter []string) bool {
	return len(filter) == 0 || slices.Contains(filter, value)
}

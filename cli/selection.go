package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A selection is what the flags say about which instances a command is about.
type selection struct {
	soaDir, service                     string
	instances, clusters                 []string
	deployGroups, owners, registrations []string
}

// flags adds the flags that select instances.
func (s *selection) flags(cmd *cobra.Command, env *Env) {
	serviceFlag(cmd, env, &s.service)
	instancesFlag(cmd, env, &s.instances)
	clustersFlag(cmd, env, &s.clusters)
	deployGroupsFlag(cmd, env, &s.deployGroups)
	cmd.Flags().StringSliceVarP(&s.owners, "owner", "o", nil, "only instances of these `TEAMS`, separated by commas; without --service of all services")
	cmd.Flags().StringSliceVarP(&s.registrations, "registration", "r", nil, "only instances with these `REGISTRATIONS`, separated by commas")
	soaDirFlag(cmd, &s.soaDir)
}

// A selected is one instance in one cluster.
type selected struct {
	service     *soaconfig.Service
	cluster     string
	instance    string
	deployGroup string // "" while the instance is broken in soa-configs
}

// selectInstances returns the instances that the flags select, by cluster, service,
// instance. Selecting nothing is an error that says which flag is to blame.
func selectInstances(ctx context.Context, env *Env, s selection) ([]selected, error) {
	dir, err := env.soaDir(s.soaDir)
	if err != nil {
		return nil, err
	}
	var services []*soaconfig.Service
	if s.service == "" && len(s.owners) > 0 {
		tree, err := loadTree(ctx, dir, soaconfig.Options{})
		if err != nil {
			return nil, err
		}
		for _, svc := range tree.Services {
			services = append(services, svc)
		}
	} else {
		svc, err := loadService(env, dir, s.service)
		if err != nil {
			return nil, err
		}
		services = append(services, svc)
	}
	all := instancesIn(services)
	if broken := unreadable(services); len(broken) > 0 {
		all = append(all, env.unlisted(ctx, services, s)...)
		if len(all) == 0 {
			return nil, command.WithHint(broken, "paasta validate -s "+services[0].Name+"; what runs goes on as it was last valid, and -i INSTANCE -c CLUSTER name a part of it")
		}
		env.notef("paasta: going on without %v", broken)
	}
	if len(all) == 0 {
		return nil, command.WithHint(fmt.Errorf("%s has no instances: there is no marathon-CLUSTER.yaml with one in %s", services[0].Name, services[0].Dir),
			"paasta list --all")
	}
	chosen := slices.Clone(all)
	for _, f := range s.filters() {
		if len(f.values) == 0 {
			continue
		}
		var known []string
		for _, i := range all {
			known = append(known, f.of(i)...)
		}
		slices.Sort(known)
		if err := checkNames(f.kind, f.values, where(services), slices.Compact(known)); err != nil {
			return nil, err
		}
		chosen = slices.DeleteFunc(chosen, func(i selected) bool {
			return !slices.ContainsFunc(f.of(i), func(v string) bool { return slices.Contains(f.values, v) })
		})
	}
	if len(chosen) == 0 {
		return nil, command.WithHint(fmt.Errorf("no instance of %s is in all of what the flags ask for", where(services)),
			"paasta list --print-instances, and fewer flags")
	}
	return chosen, nil
}

// A filter keeps the instances that have one of its values.
type filter struct {
	kind   string
	values []string
	of     func(selected) []string
}

func (s selection) filters() []filter {
	registrations := slices.Clone(s.registrations)
	for i, r := range registrations {
		if !strings.Contains(r, ".") && s.service != "" {
			registrations[i] = s.service + "." + r
		}
	}
	return []filter{
		{"cluster", s.clusters, func(i selected) []string { return []string{i.cluster} }},
		{"instance", s.instances, func(i selected) []string { return []string{i.instance} }},
		{"deploy group", s.deployGroups, func(i selected) []string { return []string{i.deployGroup} }},
		{"team", s.owners, func(i selected) []string {
			return []string{cmp.Or(i.config().MonitoringTeam, i.service.Monitoring.Team)}
		}},
		{"registration", registrations, func(i selected) []string { return i.config().Registrations }},
	}
}

// config is the zero Instance when it is broken in soa-configs.
func (i selected) config() soaconfig.Instance {
	return i.service.Instances[i.cluster].Valid[i.instance]
}

// unreadable returns what keeps files of instances from being read at all.
func unreadable(services []*soaconfig.Service) soaconfig.Problems {
	var problems soaconfig.Problems
	for _, svc := range services {
		problems = append(problems, svc.Unreadable...)
		for _, c := range svc.Clusters {
			problems = append(problems, svc.Instances[c].Unreadable...)
		}
	}
	return problems
}

// instancesIn lists all instances of services, by cluster, service, instance.
func instancesIn(services []*soaconfig.Service) []selected {
	var all []selected
	for _, svc := range services {
		for _, c := range svc.Clusters {
			for _, name := range instancesOf(svc, []string{c}) {
				i := selected{service: svc, cluster: c, instance: name}
				i.deployGroup = i.config().DeployGroup
				all = append(all, i)
			}
		}
	}
	slices.SortFunc(all, func(a, b selected) int {
		return cmp.Or(strings.Compare(a.cluster, b.cluster), strings.Compare(a.service.Name, b.service.Name), strings.Compare(a.instance, b.instance))
	})
	return all
}

// unlisted are the instances of files that cannot be read: those that the flags
// name, or that the clusters know.
func (env *Env) unlisted(ctx context.Context, services []*soaconfig.Service, s selection) []selected {
	var all []selected
	for _, svc := range services {
		for _, c := range svc.Clusters {
			e := svc.Instances[c]
			if len(e.Unreadable) == 0 || len(s.clusters) > 0 && !slices.Contains(s.clusters, c) {
				continue
			}
			names := slices.Clone(s.instances)
			if client, err := env.API(c); len(names) == 0 && err == nil {
				statuses, err := client.Status(ctx, svc.Name, "")
				if err != nil {
					env.notef("paasta: what runs of %s in %s is unknown: %v", svc.Name, c, err)
				}
				for _, st := range statuses {
					names = append(names, st.Instance)
				}
			}
			for _, name := range names {
				_, valid := e.Valid[name]
				_, invalid := e.Invalid[name]
				if !valid && !invalid {
					all = append(all, selected{service: svc, cluster: c, instance: name})
				}
			}
		}
	}
	return all
}

func where(services []*soaconfig.Service) string {
	if len(services) == 1 {
		return services[0].Name
	}
	return "soa-configs"
}

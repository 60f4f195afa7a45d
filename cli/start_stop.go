package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
)

type stateFlags struct {
	selection
	gitURL      string
	yes, dryRun bool
}

func newStart(env *Env) *cobra.Command {
	return newState(env, "start", paasta.TagStart, "Start instances that were stopped",
		`Start instances that were stopped. One that runs is restarted: its tasks are
replaced by the bounce method of soa-configs.`)
}

func newRestart(env *Env) *cobra.Command {
	return newState(env, "restart", paasta.TagStart, "Replace an instance's tasks, gracefully",
		`Restart instances: their tasks are replaced by the bounce method of soa-configs,
with the same commit and config.`)
}

func newStop(env *Env) *cobra.Command {
	return newState(env, "stop", paasta.TagStop, "Stop instances until the next deploy",
		`Stop instances gracefully. They start again with "paasta start", or with the next
deploy of another commit. To stop one for good, set "instances: 0" in soa-configs.`)
}

func newState(env *Env, name string, kind paasta.TagKind, short, long string) *cobra.Command {
	var f stateFlags
	cmd := &cobra.Command{
		Use:     name + " -s SERVICE -i INSTANCES -c CLUSTERS",
		Short:   short,
		Long:    long,
		Example: "  paasta " + name + " -s web -i main -c norcal-prod\n  paasta " + name + " -s web --dry-run",
		RunE:    func(cmd *cobra.Command, _ []string) error { return changeState(cmd.Context(), env, name, kind, f) },
	}
	f.flags(cmd, env)
	gitURLFlag(cmd, &f.gitURL)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	dryRunFlag(cmd, &f.dryRun)
	return cmd
}

func changeState(ctx context.Context, env *Env, name string, kind paasta.TagKind, f stateFlags) error {
	chosen, err := selectInstances(ctx, env, f.selection)
	if err != nil {
		return err
	}
	if err := env.runningGroups(ctx, chosen); err != nil {
		return err
	}
	services := map[string][]selected{}
	var names []string
	for _, i := range chosen {
		if services[i.service.Name] == nil {
			names = append(names, i.service.Name)
		}
		services[i.service.Name] = append(services[i.service.Name], i)
	}
	slices.Sort(names)
	if len(names) > 1 && f.gitURL != "" {
		return usagef("--git-url is for one service, and the flags select %d", len(names))
	}
	verb := "You are about to " + name
	if f.dryRun {
		verb = "Would " + name
	}
	env.notef("%s the following instances:", verb)
	for _, i := range chosen {
		env.notef("  service = %s, cluster = %s, instance = %s", i.service.Name, i.cluster, i.instance)
	}
	if f.dryRun {
		return nil
	}
	if err := confirm(ctx, env, f, names); err != nil {
		return err
	}
	var errs []error
	for _, service := range names {
		if err := tagState(ctx, env, kind, services[service], f.gitURL); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", name, service, err))
		}
	}
	if len(errs) < len(names) {
		if kind == paasta.TagStop {
			env.notef("This service will be gracefully stopped soon. It will be started back up again on the next deploy.\nTo stop this service permanently, set this in the soa-configs definition:\n\n    instances: 0\n")
		} else {
			env.notef("This service will soon be gracefully started/restarted, replacing old instances according to the bounce method chosen in soa-configs.")
		}
	}
	return joined(errs)
}

// runningGroups fills in the deploy groups of instances that are broken in
// soa-configs: those of what runs.
func (env *Env) runningGroups(ctx context.Context, chosen []selected) error {
	for n := range chosen {
		i := &chosen[n]
		if i.deployGroup != "" {
			continue
		}
		what, hint := place(i.service.Name, i.instance, i.cluster), "paasta validate -s "+i.service.Name
		client, err := env.API(i.cluster)
		if err != nil {
			return command.WithHint(fmt.Errorf("%s is broken in soa-configs, and what runs is unknown: %w", what, err), hint)
		}
		all, err := client.Status(ctx, i.service.Name, i.instance)
		if err != nil {
			return command.WithHint(fmt.Errorf("%s is broken in soa-configs, and what runs is unknown: %w", what, err), hint)
		}
		if len(all) == 0 || all[0].DeployGroup == "" {
			return command.WithHint(fmt.Errorf("%s is broken in soa-configs, and nothing of it runs", what), hint)
		}
		i.deployGroup = all[0].DeployGroup
		env.notef("paasta: %s is broken in soa-configs (%s); what was valid before stands, in deploy group %s", what, hint, i.deployGroup)
	}
	return nil
}

// confirm asks when the flags name no instances or clusters, or select several
// services. Where nobody can be asked, one service goes on, since that is what
// scripts rely on; several need --yes.
func confirm(ctx context.Context, env *Env, f stateFlags, services []string) error {
	if f.yes || len(services) == 1 && len(f.instances) > 0 && len(f.clusters) > 0 {
		return nil
	}
	if !env.InTTY {
		if len(services) > 1 {
			return usagef("the flags select %d services (%s): add --yes", len(services), strings.Join(services, ", "))
		}
		return nil
	}
	fmt.Fprint(env.Err, "Continue? [y/N] ")
	answer := make(chan string, 1)
	go func() { // ends with the process when the answer is Ctrl-C: no read of a terminal can be called off
		line, err := bufio.NewReader(env.In).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case said := <-answer:
		if said != "y" && said != "yes" {
			return errors.New("nothing was changed")
		}
		return nil
	case <-ctx.Done():
		env.notef("\nnothing was changed")
		return ctx.Err()
	}
}

// tagState writes the start or stop tags of one service's instances, all at one
// time.
func tagState(ctx context.Context, env *Env, kind paasta.TagKind, chosen []selected, gitURL string) error {
	s := chosen[0].service
	r, log, err := readTags(ctx, env, s, gitURL)
	if err != nil {
		return err
	}
	var tags []paasta.Tag
	var clusters []string
	for _, i := range chosen {
		latest, ok := log.Latest(i.deployGroup)
		if !ok {
			return command.WithHint(fmt.Errorf("nothing was deployed to %s yet, the deploy group of %s", i.deployGroup, place(s.Name, i.instance, i.cluster)),
				fmt.Sprintf("paasta mark-for-deployment -s %s -l %s -c COMMIT", s.Name, i.deployGroup))
		}
		tags = append(tags, paasta.Tag{Target: paasta.InstanceTarget(i.cluster, i.instance), Kind: kind, SHA: latest.SHA})
		clusters = append(clusters, i.cluster)
	}
	_, err = writeTags(ctx, env, r, log, func(at time.Time) []paasta.Tag {
		for i := range tags {
			tags[i].Time = at
		}
		return tags
	})
	if err != nil {
		return err
	}
	for _, i := range chosen {
		env.notef("Issued request to change state of %s (an instance of %s) in %s to '%s'", i.instance, s.Name, i.cluster, kind)
	}
	slices.Sort(clusters)
	notifyDeployd(ctx, env, s.Name, slices.Compact(clusters))
	return nil
}

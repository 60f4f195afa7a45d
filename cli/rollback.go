package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

type rollbackFlags struct {
	service, commit, gitURL, soaDir string
	groups                          []string
	force, dryRun, json             bool
}

func newRollback(env *Env) *cobra.Command {
	var f rollbackFlags
	cmd := &cobra.Command{
		Use:   "rollback -s SERVICE [-l GROUPS] [-k COMMIT]",
		Short: "Deploy a commit that was deployed before",
		Long: `Mark an earlier commit for deployment. Without a commit, show what there is to
go back to, newest first. A rollback is a deploy: what was stopped while that
commit ran the first time is not stopped by it.`,
		Example: `  paasta rollback -s web
  paasta rollback -s web -l prod.main -k 591ae8a7`,
		RunE: func(cmd *cobra.Command, _ []string) error { return rollback(cmd.Context(), env, f) },
	}
	serviceFlag(cmd, env, &f.service)
	deployGroupsFlag(cmd, env, &f.groups)
	cmd.Flags().StringVarP(&f.commit, "commit", "k", "", "the `COMMIT` to go back to, full or its first digits")
	alias(cmd, "sha", "c", "commit")
	gitURLFlag(cmd, &f.gitURL)
	soaDirFlag(cmd, &f.soaDir)
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "also to a commit that was never deployed")
	dryRunFlag(cmd, &f.dryRun)
	jsonFlag(cmd, &f.json)
	cmd.Flags().BoolP("all-deploy-groups", "a", false, "in all deploy groups: this is the default")
	cmd.MarkFlagsMutuallyExclusive("all-deploy-groups", "deploy-groups")
	return cmd
}

func rollback(ctx context.Context, env *Env, f rollbackFlags) error {
	s, err := loadService(env, f.soaDir, f.service)
	if err != nil {
		return err
	}
	r, log, err := readTags(ctx, env, s, f.gitURL)
	if err != nil {
		return err
	}
	known := deployGroupsOf(s)
	if len(s.Problems.Of(soaconfig.Broken)) > 0 { // a group may be of what cannot be read
		known = slices.Compact(slices.Sorted(slices.Values(append(known, log.Groups()...))))
	}
	groups := f.groups
	if len(groups) == 0 {
		groups = known
	} else if err := checkNames("deploy group", groups, s.Name, known); err != nil {
		return err
	}
	if len(groups) == 0 {
		return fmt.Errorf("%s has no deploy groups", s.Name)
	}
	all := askOutcomes(ctx, env, s, groups)
	list := withOutcomes(deploys(log, groups, 10), all)
	if f.commit == "" {
		if err := printDeploys(env, list, f.json); err != nil || f.json {
			return err
		}
		for _, group := range groups {
			latest, _ := log.Latest(group)
			back, known := all.before(group, latest.SHA)
			if !known {
				for _, t := range log.Deploys(group) {
					if t.SHA != latest.SHA {
						back = t.SHA
						break
					}
				}
			}
			if back != "" {
				env.notef("To go back, e.g.: paasta rollback -s %s -l %s -k %s", s.Name, group, back)
				break
			}
		}
		return nil
	}
	if !looksLikeID(f.commit) {
		if f.commit, err = expandRevision(ctx, env, r, f.commit); err != nil {
			return err
		}
	}
	sha, err := deployedCommit(ctx, r, log, groups, f.commit)
	if err != nil {
		return err
	}
	for _, group := range groups {
		if o := all.of(group, sha); o.Ran == "no" {
			back, _ := all.before(group, sha)
			env.notef("paasta: warning: %s never ran in %s: %s", short(sha), group, o.Why)
			if back != "" {
				env.notef("The commit that ran last there is %s.", back)
			}
		}
	}
	return markRollback(ctx, env, s, r, log, groups, sha, f)
}

// markRollback marks sha for those groups that had it, and with --force for all.
func markRollback(ctx context.Context, env *Env, s *soaconfig.Service, r *git.Remote, log *paasta.TagLog, groups []string, sha string, f rollbackFlags) error {
	var chosen []string
	for _, group := range groups {
		had := slices.ContainsFunc(log.Deploys(group), func(t paasta.Tag) bool { return t.SHA == sha })
		latest, _ := log.Latest(group)
		switch {
		case !had && !f.force:
			env.notef("paasta: %s is left as it is: %s was never deployed to it (--force deploys it all the same)", group, short(sha))
		case latest.SHA == sha:
			env.notef("paasta: %s is left as it is: %s is deployed to it", group, short(sha))
		default:
			chosen = append(chosen, group)
		}
	}
	known := slices.ContainsFunc(groups, func(group string) bool {
		return slices.ContainsFunc(log.Deploys(group), func(t paasta.Tag) bool { return t.SHA == sha })
	})
	switch {
	case !known && !f.force:
		return command.WithHint(fmt.Errorf("%s has never been deployed before", sha), "paasta rollback -s "+s.Name+" shows what was; --force deploys it all the same")
	case len(chosen) == 0:
		return nil
	case f.dryRun:
		for _, group := range chosen {
			env.notef("Would mark %s for deployment in deploy group %s", sha, group)
		}
		return nil
	}
	_, err := writeTags(ctx, env, r, log, func(at time.Time) []paasta.Tag {
		var tags []paasta.Tag
		for _, group := range chosen {
			tags = append(tags, deployTag(group, sha)(at)...)
		}
		return tags
	})
	if err != nil {
		return fmt.Errorf("roll back to %s: %w", short(sha), err)
	}
	for _, group := range chosen {
		env.notef("Marked %s for deployment in deploy group %s", sha, group)
	}
	notifyDeployd(ctx, env, s.Name, clustersToTell(s, chosen...))
	return nil
}

// deployedCommit expands a short commit, first among those that were deployed.
func deployedCommit(ctx context.Context, r *git.Remote, log *paasta.TagLog, groups []string, commit string) (string, error) {
	var found []string
	for _, group := range groups {
		for _, t := range log.Deploys(group) {
			if len(commit) >= 4 && strings.HasPrefix(t.SHA, strings.ToLower(commit)) && !slices.Contains(found, t.SHA) {
				found = append(found, t.SHA)
			}
		}
	}
	switch len(found) {
	case 0:
		sha, err := r.Expand(ctx, commit)
		if errors.Is(err, git.ErrNoCommit) { // and so was never deployed: to push it is no advice here
			return "", command.WithHint(err, "the same without --commit lists what was deployed")
		}
		return sha, adviseGit(err)
	case 1:
		return found[0], nil
	}
	return "", adviseGit(fmt.Errorf("%s: %w: %s", commit, git.ErrAmbiguous, strings.Join(found, ", ")))
}

// A deployed is one deploy tag as list-deployments and rollback print it.
type deployed struct {
	Time        time.Time `json:"time"`
	DeployGroup string    `json:"deploy_group"`
	GitSHA      string    `json:"git_sha"`
	Current     bool      `json:"current"`
	Ran         string    `json:"ran"`         // whether it was fully deployed: yes, no, unknown
	RanSeconds  int       `json:"ran_seconds"` // how long it was what ran, in all its deploys
	Why         string    `json:"why"`         // why it never ran
	text        string    // the last three in words
}

// deploys lists the deploys of groups, newest first, at most n; 0 means all.
func deploys(log *paasta.TagLog, groups []string, n int) []deployed {
	list := []deployed{}
	for _, group := range groups {
		for i, t := range log.Deploys(group) {
			list = append(list, deployed{Time: t.Time, DeployGroup: group, GitSHA: t.SHA, Current: i == 0})
		}
	}
	slices.SortFunc(list, func(a, b deployed) int {
		return cmp.Or(b.Time.Compare(a.Time), strings.Compare(a.DeployGroup, b.DeployGroup))
	})
	if n > 0 {
		list = list[:min(n, len(list))]
	}
	return list
}

func printDeploys(env *Env, list []deployed, asJSON bool) error {
	if asJSON {
		return env.printJSON(list)
	}
	if len(list) == 0 {
		env.notef("Nothing has been deployed yet.")
		return nil
	}
	t := newTable(env, "TIME (UTC)", "DEPLOY GROUP", "COMMIT", "CURRENT", "OUTCOME")
	for _, d := range list {
		at, sha, current := d.Time.UTC().Format(time.RFC3339), d.GitSHA, "-"
		if env.TTY {
			at, sha = d.Time.UTC().Format(time.DateTime), short(sha)
		}
		if d.Current {
			current = env.paint(good, "current")
		}
		t.row(at, d.DeployGroup, sha, current, orDash(d.text))
	}
	t.print()
	return nil
}

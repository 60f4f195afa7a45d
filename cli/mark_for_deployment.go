package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

type markFlags struct {
	service, group, commit, gitURL, soaDir string
	wait, autoRollback, verify, force      bool
	dryRun, json                           bool
	verbose                                int
	timeout                                time.Duration
}

func newMarkForDeployment(env *Env) *cobra.Command {
	var f markFlags
	cmd := &cobra.Command{
		Use:   "mark-for-deployment -s SERVICE -l GROUP -c COMMIT [--wait-for-deployment]",
		Short: "Deploy a commit to a deploy group",
		Long: `Write a tag into the service's repository that says: the instances of this
deploy group run this commit. Nothing but the tag is pushed, so the commit must
be in the repository already. Exits 0 once it is marked or, with
--wait-for-deployment, deployed; 1 if it is not; 2 if a cluster cannot be asked.`,
		Example: `  paasta mark-for-deployment -s web -l prod.main -c "$(git rev-parse HEAD)"
  paasta mark-for-deployment -s web -l prod.main -c 591ae8a7 --wait-for-deployment -t 600 --auto-rollback`,
		RunE: func(cmd *cobra.Command, _ []string) error { return mark(cmd.Context(), env, f) },
	}
	serviceFlag(cmd, env, &f.service)
	deployGroupFlag(cmd, env, &f.group)
	hiddenAlias(cmd, "clusterinstance", "", "deploy-group")
	commitFlag(cmd, &f.commit)
	gitURLFlag(cmd, &f.gitURL)
	soaDirFlag(cmd, &f.soaDir)
	cmd.Flags().BoolVarP(&f.wait, "wait-for-deployment", "w", false, "return once the commit runs everywhere in the group")
	timeoutFlag(cmd, &f.timeout, "t", "wait at most")
	cmd.Flags().CountVarP(&f.verbose, "verbose", "v", "also say which tag is pushed where, and what is waited for")
	cmd.Flags().BoolVar(&f.autoRollback, "auto-rollback", false, "when waiting fails, mark the commit that was fully deployed before")
	cmd.Flags().BoolVar(&f.verify, "verify-image-exists", false, "ask the registry for the image first")
	cmd.Flags().BoolVar(&f.force, "force", false, "say nothing about a group that soa-configs do not know")
	dryRunFlag(cmd, &f.dryRun)
	jsonFlag(cmd, &f.json)
	ignored(cmd, env, "auto-certify-delay", "a deployment is complete once all of it runs, and nothing is watched afterwards")
	ignored(cmd, env, "auto-abandon-delay", "after a rollback nothing is waited for that could be abandoned")
	ignored(cmd, env, "auto-rollback-delay", "--auto-rollback goes by the bounce and --timeout, not by SLOs that may recover")
	require(cmd, "deploy-group", "commit")
	return cmd
}

// commitFlag adds -c/--commit, and PaaSTA's other short form -k.
func commitFlag(cmd *cobra.Command, f *string) {
	cmd.Flags().StringVarP(f, "commit", "c", "", "the `COMMIT`: its id, the first digits, or a revision of this clone such as HEAD")
	alias(cmd, "sha", "k", "commit")
}

func gitURLFlag(cmd *cobra.Command, f *string) {
	cmd.Flags().StringVarP(f, "git-url", "u", "", "the repository's `URL`; default: git_url of service.yaml")
}

// A marked is the answer of mark-for-deployment --json.
type marked struct {
	Service     string `json:"service"`
	DeployGroup string `json:"deploy_group"`
	GitSHA      string `json:"git_sha"`
	Previous    string `json:"previous_git_sha"` // "" when it is the first
	Tag         string `json:"tag"`
	DryRun      bool   `json:"dry_run"`
}

func mark(ctx context.Context, env *Env, f markFlags) error {
	if f.autoRollback && !f.wait {
		return usagef("--auto-rollback needs --wait-for-deployment")
	}
	if err := checkTimeout(f.timeout); err != nil {
		return err
	}
	s, err := loadService(env, f.soaDir, f.service)
	if err != nil {
		return err
	}
	if f.wait {
		if err := waitable(s, f.group); err != nil {
			return err
		}
	}
	if err := checkGroup(s, f.group); err != nil {
		if !f.force {
			env.notef("warning: %v: it is marked all the same, and runs once soa-configs name it", err)
			if h, ok := errors.AsType[command.HintedError](err); ok {
				env.notef("Try: %s", h.Hint)
			}
		}
	} else if !slices.Contains(s.Deploy.Groups(), f.group) && !f.force {
		env.notef("warning: deploy group %s is no step of deploy.yaml of %s", f.group, s.Name)
	}
	if f.wait { // ask before anything changes whether the clusters can be asked
		if err := checkReachable(env, s, f.group); err != nil {
			return err
		}
	}
	r, log, err := readTags(ctx, env, s, f.gitURL)
	if err != nil {
		return err
	}
	sha, err := expandRevision(ctx, env, r, f.commit)
	if err != nil {
		return adviseGit(err)
	}
	before, deployed := log.Latest(f.group)
	if deployed && before.SHA == sha {
		env.notef("paasta: warning: %s is what is set to be deployed already; continuing anyway", sha)
	}
	if f.verify {
		if err := verifyImage(ctx, env, s, sha); err != nil {
			return err
		}
	}
	answer := marked{Service: s.Name, DeployGroup: f.group, GitSHA: sha, Previous: before.SHA, DryRun: f.dryRun}
	if f.dryRun {
		answer.Tag = deployTag(f.group, sha)(log.Next(env.Now()))[0].Ref()
		env.notef("Would mark %s for deployment in deploy group %s", sha, f.group)
		return printMarked(env, f.json, answer)
	}
	tag, err := markOne(ctx, env, s, r, log, f.group, sha)
	if err != nil {
		return err
	}
	answer.Tag = tag.Ref()
	if f.verbose > 0 {
		env.notef("Pushed %s to %s; the group ran %s before", answer.Tag, cmp.Or(f.gitURL, s.GitURL), cmp.Or(before.SHA, "nothing"))
	}
	if err := printMarked(env, f.json, answer); err != nil || !f.wait {
		return err
	}
	err = waitDeployed(ctx, env, s, f.group, sha, f.timeout, f.verbose > 0)
	if err == nil {
		return nil
	}
	return afterFailure(ctx, env, s, r, f, before, sha, err)
}

func printMarked(env *Env, asJSON bool, m marked) error {
	if asJSON {
		return env.printJSON(m)
	}
	return nil
}

// markOne writes the deploy tag and tells deployd.
func markOne(ctx context.Context, env *Env, s *soaconfig.Service, r *git.Remote, log *paasta.TagLog, group, sha string) (paasta.Tag, error) {
	tags, err := writeTags(ctx, env, r, log, deployTag(group, sha))
	if err != nil {
		return paasta.Tag{}, fmt.Errorf("mark %s for deployment in %s: %w", short(sha), group, err)
	}
	env.notef("Marked %s for deployment in deploy group %s", sha, group)
	notifyDeployd(ctx, env, s.Name, clustersToTell(s, group))
	return tags[0], nil
}

// afterFailure marks the commit before, if that was asked for, and says how to
// go on.
func afterFailure(ctx context.Context, env *Env, s *soaconfig.Service, r *git.Remote, f markFlags, before paasta.Tag, sha string, err error) error {
	// Ctrl-C ends the wait, and not the hint.
	back := rollbackTarget(context.WithoutCancel(ctx), env, s, f.group, sha, before.SHA)
	canGoBack := back != ""
	if ctx.Err() != nil || !f.autoRollback || !canGoBack {
		env.notef("Waiting for deployment aborted. PaaSTA will continue trying to deploy this code.")
		env.notef("To see how it is: paasta status -s %s -l %s -v", s.Name, f.group)
		switch {
		case canGoBack:
			env.notef("If you need to roll back manually, run: paasta rollback --service %s --deploy-groups %s --commit %s", s.Name, f.group, back)
		case f.autoRollback:
			env.notef("There is nothing to roll back to: no commit but %s was ever fully deployed to %s. To choose: paasta rollback -s %s -l %s", short(sha), f.group, s.Name, f.group)
		}
		return err
	}
	env.notef("%v", err)
	env.notef("Rolling back to %s, which was fully deployed before.", back)
	log, logErr := tagLog(ctx, r)
	if logErr != nil {
		return errors.Join(err, fmt.Errorf("roll back: %w", logErr))
	}
	if latest, _ := log.Latest(f.group); latest.SHA != sha {
		return fmt.Errorf("%w; not rolled back, because somebody has marked %s meanwhile", err, short(latest.SHA))
	}
	if _, markErr := markOne(ctx, env, s, r, log, f.group, back); markErr != nil {
		return errors.Join(err, fmt.Errorf("roll back: %w", markErr))
	}
	return fmt.Errorf("%s was not deployed and %s is marked again: %w", short(sha), short(back), err)
}

// verifyImage is an error when the registry has no image of the commit.
func verifyImage(ctx context.Context, env *Env, s *soaconfig.Service, sha string) error {
	address, ref, err := imageOf(env, s, sha)
	if err != nil {
		return err
	}
	credentials, err := image.FindCredentials(ctx, address)
	if err != nil {
		return err
	}
	has, err := image.Registry{Address: address, Credentials: credentials}.Has(ctx, paasta.ImageName(s.Name, sha))
	if err == nil && !has {
		err = command.WithHint(fmt.Errorf("there is no image %s", ref), "paasta itest and paasta push-to-registry first")
	}
	return err
}

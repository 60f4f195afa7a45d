package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

const (
	pollEvery  = 150 * time.Millisecond
	pollAtMost = 5 * time.Second // while an API does not answer
	// failedFor is how long a bounce must have failed without a pause before
	// nobody waits for it any longer.
	failedFor = 30 * time.Second
)

func newWaitForDeployment(env *Env) *cobra.Command {
	var service, group, commit, gitURL, soaDir string
	var timeout time.Duration
	var verbose int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "wait-for-deployment -s SERVICE -l GROUP -c COMMIT",
		Short: "Wait until a marked commit runs",
		Long: `Wait until every instance of the deploy group runs the commit, and nothing else.
The commit must be the one that is marked for deployment. Exits 0 once it runs;
1 if it does not in time; 2 if a cluster has no API that could be asked.`,
		Example: `  paasta wait-for-deployment -s web -l prod.main -c 591ae8a7 -t 600
  paasta wait-for-deployment -s web -l prod.main -c "$(git rev-parse HEAD)"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := checkTimeout(timeout); err != nil {
				return err
			}
			s, err := loadService(env, soaDir, service)
			if err != nil {
				return err
			}
			if err := waitable(s, group); err != nil {
				return err
			}
			if err := checkGroup(s, group); err != nil {
				return err
			}
			if err := checkReachable(env, s, group); err != nil {
				return err
			}
			sha, err := markedCommit(ctx, env, s, group, commit, gitURL)
			if err != nil {
				return err
			}
			began := env.Now()
			err = waitDeployed(ctx, env, s, group, sha, timeout, verbose > 0)
			if err != nil {
				env.notef("Waiting for deployment aborted. PaaSTA will continue trying to deploy this code.")
			}
			if asJSON {
				answer := waited{Service: s.Name, DeployGroup: group, GitSHA: sha, Deployed: err == nil, Seconds: env.Now().Sub(began).Seconds()}
				return errors.Join(err, env.printJSON(answer))
			}
			return err
		},
	}
	serviceFlag(cmd, env, &service)
	deployGroupFlag(cmd, env, &group)
	commitFlag(cmd, &commit)
	gitURLFlag(cmd, &gitURL)
	soaDirFlag(cmd, &soaDir)
	timeoutFlag(cmd, &timeout, "t", "wait at most")
	cmd.Flags().CountVarP(&verbose, "verbose", "v", "also say what is waited for, which API is asked, and how long it took")
	jsonFlag(cmd, &asJSON)
	require(cmd, "deploy-group", "commit")
	return cmd
}

// A waited is the answer of wait-for-deployment --json.
type waited struct {
	Service     string  `json:"service"`
	DeployGroup string  `json:"deploy_group"`
	GitSHA      string  `json:"git_sha"`
	Deployed    bool    `json:"deployed"`
	Seconds     float64 `json:"seconds"` // that were waited
}

// markedCommit returns the full id of commit, which must be the one that is
// marked for the group. With the git server down a full id is believed.
func markedCommit(ctx context.Context, env *Env, s *soaconfig.Service, group, commit, gitURL string) (string, error) {
	r, err := openRepository(env, s, gitURL)
	if err != nil {
		return "", err
	}
	sha, err := expandRevision(ctx, env, r, commit)
	if err != nil {
		return "", adviseGit(err)
	}
	tags, err := r.Tags(ctx)
	if err != nil {
		env.notef("paasta: warning: cannot see whether %s is marked, waiting all the same: %v", short(sha), err)
		return sha, nil
	}
	latest, ok := paasta.NewTagLog(tags).Latest(group)
	switch {
	case !ok:
		return "", command.WithHint(fmt.Errorf("nothing is marked for deployment in %s for %s", group, s.Name),
			fmt.Sprintf("paasta mark-for-deployment -s %s -l %s -c %s", s.Name, group, sha))
	case latest.SHA != sha:
		return "", fmt.Errorf("the latest commit marked for deployment in %s is %s, not %s", group, latest.SHA, sha)
	}
	return sha, nil
}

// checkReachable ends the command with 2 when a cluster with an instance of the
// group has no API that could be asked.
func checkReachable(env *Env, s *soaconfig.Service, group string) error {
	for _, cluster := range clustersUsing(s, group) {
		if _, err := env.API(cluster); err != nil {
			return command.UsageError{Err: fmt.Errorf("wait for a deployment in %s: %w", cluster, err)}
		}
	}
	return nil
}

// waitable is an error when soa-configs cannot be read well enough to say which
// instances use the group: none would be waited for, and that would look like
// success.
func waitable(s *soaconfig.Service, group string) error {
	broken := unreadable([]*soaconfig.Service{s})
	if len(broken) == 0 && len(clustersUsing(s, group)) == 0 {
		for _, entries := range s.Instances {
			for _, p := range entries.Invalid {
				broken = append(broken, p...)
			}
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return command.WithHint(fmt.Errorf("which instances use %s is not known: %w", group, broken),
		fmt.Sprintf("mend soa-configs (paasta validate -s %s), or mark without waiting", s.Name))
}

func checkTimeout(timeout time.Duration) error {
	if timeout <= 0 {
		return usagef("--timeout %v: want more than 0", timeout)
	}
	return nil
}

// An answer is what one poll of one cluster said.
type answer struct {
	cluster  string
	statuses []api.InstanceStatus
	err      error
}

// waitDeployed returns nil once all instances of the group run sha.
func waitDeployed(ctx context.Context, env *Env, s *soaconfig.Service, group, sha string, timeout time.Duration, verbose bool) error {
	waiting := map[string]string{} // "service.instance on cluster" → why
	instances := map[string][]string{}
	for cluster, entries := range s.Instances {
		for name, i := range entries.Valid {
			if i.DeployGroup == group {
				instances[cluster] = append(instances[cluster], name)
				waiting[place(s.Name, name, cluster)] = "has not been heard of" + notHeardFrom(env, cluster)
			}
		}
		for name := range entries.Invalid {
			env.notef("paasta: warning: %s is broken in soa-configs and not waited for (paasta validate -s %s)", place(s.Name, name, cluster), s.Name)
		}
	}
	if len(waiting) == 0 {
		env.notef("No instance of %s uses %s: nothing to wait for.", s.Name, group)
		return nil
	}
	env.notef("Waiting for deployment of %s for '%s' to complete...", sha, group)
	if verbose {
		for _, cluster := range slices.Sorted(maps.Keys(instances)) {
			if client, err := env.API(cluster); err == nil {
				env.notef("  asking %s about %s in %s", client.URL(), strings.Join(instances[cluster], ", "), cluster)
			}
		}
		defer func(began time.Time) { env.notef("Waited %v.", env.Now().Sub(began).Round(time.Millisecond)) }(env.Now())
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	answers := make(chan answer)
	var polls sync.WaitGroup
	defer polls.Wait()
	defer cancel()
	for cluster := range instances {
		polls.Go(func() { pollStatus(ctx, env, s.Name, cluster, answers) })
	}
	p := newProgress(env)
	defer p.done()
	failing := map[string]time.Time{}
	for len(waiting) > 0 {
		var a answer
		select {
		case <-ctx.Done():
			if outer.Err() != nil {
				return outer.Err()
			}
			return command.WithHint(fmt.Errorf("%s is not deployed to %s after %v: %s", short(sha), group, timeout, reasons(waiting)),
				fmt.Sprintf("paasta status -s %s -l %s -v, or paasta logs -s %s -C deploy, or wait on: paasta wait-for-deployment -s %s -l %s -c %s", s.Name, group, s.Name, s.Name, group, sha))
		case a = <-answers:
		}
		for _, name := range slices.Sorted(slices.Values(instances[a.cluster])) {
			at := place(s.Name, name, a.cluster)
			if _, ok := waiting[at]; !ok {
				continue
			}
			done, why := judge(a, name, sha)
			if done {
				delete(waiting, at)
				p.finish(at, fmt.Sprintf("Complete: %s looks 100%% deployed at %s on %s", at, why, sha))
				continue
			}
			why += crashing(a, name)
			waiting[at] = why
			p.set(at, fmt.Sprintf("  %s %s", at, why))
			if !isFailed(a, name, sha) {
				delete(failing, at)
			} else if since, ok := failing[at]; !ok {
				failing[at] = env.Now()
			} else if env.Now().Sub(since) > failedFor {
				return command.WithHint(fmt.Errorf("%s is not deployed to %s: %s %s", short(sha), group, at, why),
					fmt.Sprintf("paasta logs -s %s -C deploy", s.Name))
			}
		}
	}
	env.notef("Deployment of %s for '%s' complete.", sha, group)
	return nil
}

// notHeardFrom says which API a cluster's answers come from.
func notHeardFrom(env *Env, cluster string) string {
	client, err := env.API(cluster)
	if err != nil {
		return ""
	}
	return ": " + client.URL() + " has not answered"
}

func place(service, instance, cluster string) string {
	return service + "." + instance + " on " + cluster
}

func reasons(waiting map[string]string) string {
	var all []string
	for at, why := range waiting {
		all = append(all, at+" "+why)
	}
	slices.Sort(all)
	if len(all) > 5 {
		all = append(all[:5], fmt.Sprintf("and %d more", len(all)-5))
	}
	return strings.Join(all, "; ")
}

// pollStatus asks a cluster again and again until ctx ends.
func pollStatus(ctx context.Context, env *Env, service, cluster string, answers chan<- answer) {
	pause := pollEvery
	client, err := env.API(cluster)
	for {
		a := answer{cluster: cluster, err: err}
		if err == nil {
			a.statuses, a.err = client.Status(ctx, service, "")
		}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
		if pause = min(2*pause, pollAtMost); a.err == nil || api.IsNotFound(a.err) {
			pause = pollEvery
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (a answer) of(instance string) *api.InstanceStatus {
	i := slices.IndexFunc(a.statuses, func(s api.InstanceStatus) bool { return s.Instance == instance })
	if i < 0 {
		return nil
	}
	return &a.statuses[i]
}

// isFailed tells whether deployd says that the bounce to sha has failed. While
// tags or Marathon cannot be read it says nothing of the bounce.
func isFailed(a answer, instance, sha string) bool {
	s := a.of(instance)
	return s != nil && !s.GitUnknown && s.DeployStatus != "Unknown" && sameCommit(s.GitSHA, sha) && s.Bounce != nil && s.Bounce.State == "failed"
}

// crashing says how tasks of the desired app fail, "" when they do not.
func crashing(a answer, instance string) string {
	s := a.of(instance)
	if s == nil || s.DeployStatus != "Delayed" {
		return ""
	}
	for _, v := range s.Versions {
		if f := v.LastFailure; v.Desired && f != nil {
			return fmt.Sprintf("; its tasks fail: %s: %s", f.State, oneLine(f.Message))
		}
	}
	return ""
}

// noted returns the note of s that begins with one of the given words.
func noted(s *api.InstanceStatus, otherwise string, beginnings ...string) string {
	for _, n := range s.Notes {
		for _, b := range beginnings {
			if strings.HasPrefix(n, b) {
				return oneLine(n)
			}
		}
	}
	return otherwise
}

// judge tells whether an instance runs sha and nothing else, at which size, or
// what is missing.
func judge(a answer, instance, sha string) (done bool, why string) {
	s := a.of(instance)
	switch {
	case s == nil && a.err != nil && !api.IsNotFound(a.err):
		return false, "cannot be asked: " + a.err.Error()
	case s == nil:
		return false, "is not known there yet"
	case s.GitUnknown:
		return false, "cannot be judged: " + noted(s, "which commit should run is unknown", "which commit", "soa-configs")
	// Before deployd has read the tag everything looks complete, with the old
	// commit.
	case !sameCommit(s.GitSHA, sha):
		return false, "doesn't have the right sha yet: " + cmp.Or(s.GitSHA, "none")
	case s.DeployStatus == "Unknown":
		return false, "cannot be judged: " + noted(s, "what runs is unknown", "what runs")
	case s.Expected == 0 || s.DesiredState == "stop":
		return true, "0 instances"
	case s.Bounce != nil && s.Bounce.State != "steady" && s.Bounce.Why != "":
		// deployd's words name the instance again.
		return false, s.Bounce.State + ": " + oneLine(strings.TrimPrefix(s.Bounce.Why, s.Service+"."+instance+": "))
	}
	desired := slices.IndexFunc(s.Versions, func(v api.Version) bool { return v.Desired })
	switch {
	case desired < 0:
		return false, "isn't in Marathon yet"
	case s.AppCount != 1:
		return false, fmt.Sprintf("is still bouncing, %d versions running", s.AppCount)
	case s.Bounce != nil && s.Bounce.State != "steady":
		return false, "is " + s.Bounce.State
	case s.DeployStatus != "Running" && s.DeployStatus != "Deploying" && s.DeployStatus != "Waiting":
		return false, "isn't running yet: " + s.DeployStatus
	}
	need := int(math.Ceil(s.MarginFactor * float64(s.Expected)))
	if s.Running < need {
		return false, fmt.Sprintf("isn't scaled up yet, has %d out of %d required instances (out of a total of %d)", s.Running, need, s.Expected)
	}
	return true, plural(s.Running, "instance")
}

// sameCommit compares a full commit with the first characters of one.
func sameCommit(first, full string) bool {
	return len(first) >= 4 && strings.HasPrefix(full, first)
}

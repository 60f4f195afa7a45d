package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// kickWithin bounds how long a command waits for deployd to be told; it looks
// by itself a little later.
const kickWithin = 3 * time.Second

// gitDown is what to do while tags can be neither read nor written.
const gitDown = `the same again once the git server answers. What runs goes on running. ` +
	`To stop or to scale meanwhile, set "instances:" in soa-configs (0 stops)`

// openRepository opens the repository of a service: what the flag says, or git_url of
// service.yaml.
func openRepository(env *Env, s *soaconfig.Service, flag string) (*git.Remote, error) {
	address := flag
	if address == "" {
		address = s.GitURL
	}
	if address == "" {
		return nil, command.WithHint(fmt.Errorf("nobody said where the repository of %s is", s.Name),
			"set git_url in "+s.Dir+"/service.yaml, or give --git-url URL")
	}
	r, err := git.Open(address)
	if err != nil {
		return nil, err
	}
	if here, err := env.getwd(); err == nil {
		r = r.InClone(here)
	}
	return r, nil
}

// readTags opens the repository of a service, as openRepository does, and reads its
// tags.
func readTags(ctx context.Context, env *Env, s *soaconfig.Service, flag string) (*git.Remote, *paasta.TagLog, error) {
	r, err := openRepository(env, s, flag)
	if err != nil {
		return nil, nil, err
	}
	log, err := tagLog(ctx, r)
	return r, log, err
}

// tagLog reads the tags of a repository.
func tagLog(ctx context.Context, r *git.Remote) (*paasta.TagLog, error) {
	tags, err := r.Tags(ctx)
	if err != nil {
		return nil, adviseGit(err)
	}
	return paasta.NewTagLog(tags), nil
}

// adviseGit says how to go on when git is the problem.
func adviseGit(err error) error {
	switch {
	case errors.Is(err, git.ErrUnreachable) && strings.Contains(err.Error(), "does not appear to be a git repository"): // git's own words, here or over ssh
		return command.WithHint(err, gitDown+". Or is git_url in service.yaml wrong?")
	case errors.Is(err, git.ErrUnreachable):
		return command.WithHint(err, gitDown)
	case errors.Is(err, git.ErrRefused):
		return command.WithHint(err, "check that git_url in service.yaml is right, and that you may read and write there. What runs goes on running")
	case errors.Is(err, git.ErrNoCommit):
		return command.WithHint(err, "push the commit first: git push")
	case errors.Is(err, git.ErrAmbiguous):
		return command.WithHint(err, "give more digits of the commit")
	}
	return err
}

// crowded bounds how long a mark makes way for others of the same second.
const crowded = 2 * time.Minute

// writeTags writes the tags that tagsAt returns for a time, which is later than
// every tag there is. When somebody else was faster it reads again and takes
// the next second, for as long as it takes when many do so at once; when the
// server does not answer it tries again a little later.
func writeTags(ctx context.Context, env *Env, r *git.Remote, log *paasta.TagLog, tagsAt func(at time.Time) []paasta.Tag) ([]paasta.Tag, error) {
	const attempts = 5
	began := time.Now()
	for silent, lost := 0, 0; ; {
		tags := tagsAt(log.Next(env.Now()))
		err := r.Push(ctx, tags...)
		if err == nil {
			return tags, nil
		}
		for err != nil {
			var pause time.Duration
			switch {
			case ctx.Err() != nil:
				return nil, adviseGit(err)
			case errors.Is(err, git.ErrExists) && time.Since(began) < crowded:
				if lost++; lost == 1 {
					env.notef("paasta: %v; trying again with the next second", err)
				}
				// Apart, or those who lost together would meet again.
				pause = rand.N(time.Duration(min(lost, 10)) * 100 * time.Millisecond)
			case errors.Is(err, git.ErrUnreachable) && silent < attempts-1:
				silent++
				env.notef("paasta: %v; trying again (%d of %d)", err, silent+1, attempts)
				pause = 200 * time.Millisecond << silent
			default:
				return nil, adviseGit(err)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			var known []paasta.Tag
			if known, err = r.Tags(ctx); err == nil {
				log = paasta.NewTagLog(known)
			}
		}
	}
}

// notifyDeployd tells deployd of the clusters to look at a service now. A cluster that
// cannot be told is only worth a warning.
func notifyDeployd(ctx context.Context, env *Env, service string, clusters []string) {
	ctx, cancel := context.WithTimeout(ctx, kickWithin)
	defer cancel()
	errs := make([]error, len(clusters))
	var wg sync.WaitGroup
	for n, cluster := range clusters {
		wg.Go(func() {
			client, err := env.API(cluster)
			if err == nil {
				err = client.Kick(ctx, service)
			}
			errs[n] = err
		})
	}
	wg.Wait()
	for n, err := range errs {
		if err != nil {
			env.notef("paasta: warning: cannot tell deployd in %s, which sees the tag within its poll interval: %v", clusters[n], err)
		}
	}
}

// clustersToTell lists the clusters that a new tag of the groups may concern: those
// that use them, and those of which soa-configs do not say what they use.
func clustersToTell(s *soaconfig.Service, groups ...string) []string {
	clusters := clustersUsing(s, groups...)
	for cluster, entries := range s.Instances {
		if len(entries.Invalid) > 0 || len(entries.Unreadable) > 0 {
			clusters = append(clusters, cluster)
		}
	}
	slices.Sort(clusters)
	return slices.Compact(clusters)
}

// clustersUsing lists the clusters with an instance in one of the groups,
// sorted.
func clustersUsing(s *soaconfig.Service, groups ...string) []string {
	clusters := map[string]bool{}
	for cluster, entries := range s.Instances {
		for _, i := range entries.Valid {
			if slices.Contains(groups, i.DeployGroup) {
				clusters[cluster] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(clusters))
}

// checkGroup is an error with suggestions when s does not use the group.
func checkGroup(s *soaconfig.Service, group string) error {
	if known := deployGroupsOf(s); !slices.Contains(known, group) {
		return unknown("deploy group", group, s.Name, known)
	}
	return nil
}

// deployTag returns what makes the deploy tag of a group.
func deployTag(group, sha string) func(time.Time) []paasta.Tag {
	return func(at time.Time) []paasta.Tag {
		return []paasta.Tag{{Target: group, Time: at, Kind: paasta.TagDeploy, SHA: sha}}
	}
}

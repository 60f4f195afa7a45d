package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// An outcome is what came of the deploys of one commit to one group, in all
// clusters together.
type outcome struct {
	Ran  string        `json:"ran"` // yes: it was fully deployed, everywhere; no; unknown
	For  time.Duration `json:"-"`   // how long it was the one that ran
	Last time.Time     `json:"-"`   // when it was fully deployed last
	Why  string        `json:"why,omitempty"`
}

// outcomes are by deploy group and commit.
type outcomes map[string]map[string]outcome

// askOutcomes asks the clusters that use the groups what came of their deploys. One
// that cannot be asked is only worth a warning.
func askOutcomes(ctx context.Context, env *Env, s *soaconfig.Service, groups []string) outcomes {
	clusters := clustersUsing(s, groups...)
	if len(clusters) == 0 {
		clusters = s.Clusters
	}
	ctx, cancel := context.WithTimeout(ctx, kickWithin)
	defer cancel()
	answers := make([]api.Deployments, len(clusters))
	errs := make([]error, len(clusters))
	var wg sync.WaitGroup
	for n, cluster := range clusters {
		wg.Go(func() {
			client, err := env.API(cluster)
			if err == nil {
				answers[n], err = client.Deployments(ctx, s.Name)
			}
			errs[n] = err
		})
	}
	wg.Wait()
	histories := map[string]map[string][]paasta.DeployRecord{}
	for n, cluster := range clusters {
		if errs[n] != nil {
			env.notef("paasta: warning: what ran in %s is not known: %v", cluster, errs[n])
			continue
		}
		histories[cluster] = answers[n].History
	}
	return judgeRecords(histories, env.Now())
}

// judgeRecords puts together what clusters recorded, by cluster and group. A commit
// ran when it was fully deployed in every cluster that was asked to run it.
func judgeRecords(histories map[string]map[string][]paasta.DeployRecord, now time.Time) outcomes {
	all := outcomes{}
	for cluster, groups := range histories {
		for group, records := range groups {
			if all[group] == nil {
				all[group] = map[string]outcome{}
			}
			for sha, here := range judgeCluster(records, now) {
				if here.Ran == "no" && len(histories) > 1 {
					here.Why = cluster + ": " + here.Why
				}
				o, known := all[group][sha]
				switch {
				case !known:
					o = here
				case o.Ran == "no":
				case here.Ran == "no":
					o = here
				default:
					o.For, o.Last = min(o.For, here.For), later(o.Last, here.Last)
				}
				all[group][sha] = o
			}
		}
	}
	return all
}

func judgeCluster(records []paasta.DeployRecord, now time.Time) map[string]outcome {
	all := map[string]outcome{}
	for _, r := range records {
		o, known := all[r.GitSHA]
		if !r.Deployed.IsZero() {
			end := r.Ended
			if end.IsZero() {
				end = now
			}
			o = outcome{Ran: "yes", For: o.For + end.Sub(r.Deployed), Last: later(o.Last, r.Deployed)}
		} else if !known || o.Ran == "no" {
			o = outcome{Ran: "no", Why: cmp.Or(r.Why, "its deploy did not end")}
		}
		all[r.GitSHA] = o
	}
	return all
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// of returns what is known of a commit.
func (all outcomes) of(group, sha string) outcome {
	if o, ok := all[group][sha]; ok {
		return o
	}
	return outcome{Ran: "unknown"}
}

// before returns the commit that was fully deployed last in a group, other than
// sha; "" for none. Known is false when nothing at all was recorded of the group.
func (all outcomes) before(group, sha string) (commit string, known bool) {
	var last time.Time
	for other, o := range all[group] {
		if other != sha && o.Ran == "yes" && (commit == "" || o.Last.After(last)) {
			commit, last = other, o.Last
		}
	}
	return commit, len(all[group]) > 0
}

// text is an outcome in a few words.
func (o outcome) text() string {
	switch o.Ran {
	case "yes":
		return "ran " + roughly(o.For)
	case "no":
		return "never ran: " + o.Why
	}
	return ""
}

// rollbackTarget chooses where a deploy that failed goes back to: the commit that was
// fully deployed last. Where nothing was recorded it is the one that was marked
// before, as far as anybody knows.
func rollbackTarget(ctx context.Context, env *Env, s *soaconfig.Service, group, sha, marked string) string {
	commit, known := askOutcomes(ctx, env, s, []string{group}).before(group, sha)
	if known {
		return commit
	}
	if marked == sha {
		return ""
	}
	if marked != "" {
		env.notef("paasta: warning: whether %s ran was not recorded", short(marked))
	}
	return marked
}

// withOutcomes adds to deploys what came of them.
func withOutcomes(list []deployed, all outcomes) []deployed {
	list = slices.Clone(list)
	for n := range list {
		o := all.of(list[n].DeployGroup, list[n].GitSHA)
		list[n].Ran, list[n].Why, list[n].RanSeconds, list[n].text = o.Ran, o.Why, int(o.For.Seconds()), strings.TrimSpace(o.text())
	}
	return list
}

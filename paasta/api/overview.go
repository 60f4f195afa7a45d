package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/dashboard"
)

// The page of all services is read at most this often, however many look at it.
const overviewEvery = 2 * time.Second

// reloadEvery is how often the page reloads itself, in seconds.
const reloadEvery = 5

// An overview is the latest page, for whoever asks within overviewEvery.
type overview struct {
	mu   sync.Mutex
	at   time.Time
	html []byte
}

// overviewPage serves the page of all services.
func (s *server) overviewPage(w http.ResponseWriter, r *http.Request) error {
	s.page.mu.Lock()
	defer s.page.mu.Unlock()
	if now := s.now(); now.Sub(s.page.at) > overviewEvery {
		all, err := s.overview(r.Context(), now)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := dashboard.RenderServices(&b, all); err != nil {
			return err
		}
		if r.Context().Err() != nil {
			return nil // it may lack what was not waited for
		}
		s.page.at, s.page.html = now, b.Bytes()
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, err := w.Write(s.page.html)
	return ignoreGone(err)
}

// overview reads all services at once: each part is asked one question, but
// ZooKeeper, which is asked one a service. The load balancers are not asked.
func (s *server) overview(ctx context.Context, now time.Time) (dashboard.Services, error) {
	tree, err := s.soa()
	if err != nil {
		return dashboard.Services{}, err
	}
	page := dashboard.Services{Cluster: s.Cluster, At: now, Every: reloadEvery}
	base := snapshot{cluster: s.Cluster, tree: tree}
	bounces := map[string]map[string]paasta.BounceStatus{}
	deployed := map[string]Deployments{}
	sizes := map[string]map[string]int{}
	errs := map[string]error{}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(tree.Services)) {
		if len(s.instances(tree.Services[name])) > 0 {
			names = append(names, name)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Go(func() {
		var all []paasta.BounceStatus
		base.leads, base.bouncesErr = s.askLeader(ctx, "/v1/instances", &all)
		for _, b := range all {
			if bounces[b.Service] == nil {
				bounces[b.Service] = map[string]paasta.BounceStatus{}
			}
			bounces[b.Service][b.Instance] = b
		}
	})
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, marathonWithin)
		defer cancel()
		base.apps, base.queue, base.marathonErr = s.apps(ctx, "", make([]string, manyInstances+1))
	})
	zkCtx, cancel := context.WithTimeout(ctx, zookeeperWithin)
	defer cancel()
	for _, name := range names {
		wg.Go(func() {
			svc := tree.Services[name]
			d, err := s.deployed(zkCtx, name)
			asked, sizesErr := s.sizes(zkCtx, name, autoscaled(svc, s.Cluster, s.instances(svc)))
			mu.Lock()
			defer mu.Unlock()
			deployed[name], sizes[name], errs[name] = d, asked, errors.Join(err, sizesErr)
		})
	}
	wg.Wait()

	note := func(what string, err error) {
		if err != nil {
			page.Notes = append(page.Notes, fmt.Sprintf("%s: %v", what, err))
		}
	}
	note("What runs is unknown, or not all of it", base.marathonErr)
	note("How bounces are going is unknown", base.bouncesErr)
	if !base.leads && base.bouncesErr == nil {
		page.Notes = append(page.Notes, "No deployd leads this cluster: nothing changes until one does.")
	}
	unread := 0
	for _, name := range names {
		n := base
		n.svc, n.deployed, n.deployedErr = tree.Services[name], deployed[name], errs[name]
		n.sizes, n.bounces = sizes[name], bounces[name]
		if n.deployedErr != nil {
			unread++
		}
		for _, instance := range s.instances(n.svc) {
			page.Rows = append(page.Rows, rowOf(n.instance(instance)))
		}
	}
	if unread > 0 {
		page.Notes = append(page.Notes, fmt.Sprintf("Which commit should run is unknown of %d services: ZooKeeper does not answer.", unread))
	}
	slices.SortStableFunc(page.Rows, func(a, b dashboard.Row) int { // what needs a look comes first
		return cmp.Or(rank(a)-rank(b), strings.Compare(a.Service, b.Service))
	})
	return page, nil
}

// rank orders rows: what needs a look, what is well, what nobody has asked for.
func rank(r dashboard.Row) int {
	switch {
	case !r.Deployed:
		return 2
	case r.OK:
		return 1
	}
	return 0
}

func rowOf(st InstanceStatus) dashboard.Row {
	r := dashboard.Row{
		Service: st.Service, Instance: st.Instance, GitSHA: st.GitSHA, Status: st.DeployStatus,
		Running: st.Running, Healthy: st.Healthy, Expected: st.Expected, OK: st.OK,
		Deployed: st.DeployStatus != "NotDeployed",
	}
	if st.Bounce != nil {
		r.Bounce, r.Why = st.Bounce.State, st.Bounce.Why
	}
	return r
}

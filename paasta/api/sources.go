package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/zk"
)

// How long each part may take to answer. What is slower is left out of the
// answer, with a note.
const (
	zookeeperWithin = time.Second
	marathonWithin  = 5 * time.Second
	deploydWithin   = time.Second
	agentWithin     = time.Second
)

// maxAgents bounds how many hosts a status asks, as a bounce does.
const maxAgents = 20

// deployed reads what deployd concluded from a service's tags.
func (s *server) deployed(ctx context.Context, service string) (Deployments, error) {
	d := Deployments{Service: service, Groups: map[string]deployments.Deployment{}, Controls: map[string]deployments.Control{}, History: map[string][]paasta.DeployRecord{}}
	data, _, err := s.ZK.Get(ctx, paasta.DeployedPath(s.Cluster, service))
	if err == nil {
		err = decode(data, &d.History, "how the deploys of "+service+" went")
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return d, fmt.Errorf("read how the deploys of %s went: %w", service, err)
	}
	data, _, err = s.ZK.Get(ctx, paasta.DeploymentsPath(s.Cluster, service))
	if errors.Is(err, zk.ErrNoNode) {
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("read the deployments of %s: %w", service, err)
	}
	file, err := deployments.Decode(data)
	if err != nil {
		return d, fmt.Errorf("read the deployments of %s: %w", service, err)
	}
	d.Known = true
	maps.Copy(d.Groups, file.V2.Deployments)
	for key, control := range file.V2.Controls {
		if instance, ok := strings.CutPrefix(key, service+":"+s.Cluster+"."); ok {
			d.Controls[instance] = control
		}
	}
	return d, nil
}

// sizes reads the sizes that were asked for by hand or by the autoscaler; an
// instance without one is not in the map.
func (s *server) sizes(ctx context.Context, service string, instances []string) (map[string]int, error) {
	read, err := gather(instances, unlimited, func(instance string) (*int, error) {
		data, _, err := s.ZK.Get(ctx, paasta.DesiredSizePath(s.Cluster, paasta.InstanceID{Service: service, Instance: instance}))
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		n := 0
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		if err != nil {
			return nil, fmt.Errorf("read the desired size of %s.%s: %w", service, instance, err)
		}
		return &n, nil
	})
	sizes := map[string]int{}
	for i, n := range read {
		if n != nil {
			sizes[instances[i]] = *n
		}
	}
	return sizes, err
}

// unlimited lets gather ask everybody at once.
const unlimited = -1

// gather asks all questions, so many at once, and returns the answers in their
// order. Errors that say the same are one: a Marathon that is down is down for each
// question.
func gather[Q, A any](questions []Q, atOnce int, ask func(Q) (A, error)) ([]A, error) {
	answers, errs := make([]A, len(questions)), make([]error, len(questions))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, q := range questions {
		g.Go(func() error {
			answers[i], errs[i] = ask(q)
			return nil
		})
	}
	_ = g.Wait()
	seen := map[string]bool{}
	return answers, errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		if err == nil {
			return true
		}
		text := err.Error()
		if op, ok := errors.AsType[*net.OpError](err); ok {
			text = op.Error()
		}
		again := seen[text]
		seen[text] = true
		return again
	})...)
}

// manyInstances is how many instances make one question for everything cheaper
// than one for each.
const manyInstances = 8

// apps asks every Marathon for the apps of the instances, and for its queue, at
// once. What one of them does not say is missing, and the error says so. Apps
// of others may be among them.
func (s *server) apps(ctx context.Context, service string, instances []string) ([]marathon.App, []marathon.QueueItem, error) {
	var questions []func() ([]marathon.App, error)
	for _, m := range s.Marathon {
		if len(instances) > manyInstances {
			questions = append(questions, func() ([]marathon.App, error) { return m.Apps(ctx) })
			continue
		}
		for _, name := range instances {
			questions = append(questions, func() ([]marathon.App, error) {
				return m.AppsOf(ctx, paasta.InstanceID{Service: service, Instance: name})
			})
		}
	}
	var queues [][]marathon.QueueItem
	var queueErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		queues, queueErr = gather(s.Marathon, unlimited, func(m Marathon) ([]marathon.QueueItem, error) { return m.Queue(ctx) })
	})
	apps, err := gather(questions, unlimited, func(ask func() ([]marathon.App, error)) ([]marathon.App, error) { return ask() })
	wg.Wait()
	if err == nil {
		err = queueErr
	}
	return slices.Concat(apps...), slices.Concat(queues...), err
}

// bounces asks deployd's leader about the instances of a service. found is
// false when nobody leads.
func (s *server) bounces(ctx context.Context, service string) (list map[string]paasta.BounceStatus, found bool, err error) {
	var all []paasta.BounceStatus
	found, err = s.askLeader(ctx, "/v1/instances/"+url.PathEscape(service), &all)
	list = map[string]paasta.BounceStatus{}
	for _, b := range all {
		list[b.Instance] = b
	}
	return list, found, err
}

// askLeader GETs from deployd's leader.
func (s *server) askLeader(ctx context.Context, path string, v any) (found bool, err error) {
	zkCtx, cancel := context.WithTimeout(ctx, zookeeperWithin)
	defer cancel()
	n, found, err := s.leader(zkCtx)
	if err != nil || !found {
		return false, err
	}
	ctx, cancel = context.WithTimeout(ctx, deploydWithin)
	defer cancel()
	if err := s.ask(ctx, n.Status+path, v); err != nil {
		return true, fmt.Errorf("ask deployd on %s: %w", n.Host, err)
	}
	return true, nil
}

// agentHosts lists the hosts that announce an agent.
func (s *server) agentHosts(ctx context.Context) ([]string, error) {
	names, _, err := s.ZK.Children(ctx, paasta.AgentsPath)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	return names, nil
}

// choose returns up to maxAgents of the hosts, those with tasks first.
func choose(hosts []string, withTasks map[string]bool) []string {
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b string) int {
		if withTasks[a] != withTasks[b] {
			if withTasks[a] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return hosts[:min(len(hosts), maxAgents)]
}

// agents reads the nodes of agents; one that has gone meanwhile is left out.
func (s *server) agents(ctx context.Context, hosts []string) ([]paasta.AgentNode, error) {
	nodes, err := gather(hosts, unlimited, func(host string) ([]paasta.AgentNode, error) {
		data, _, err := s.ZK.Get(ctx, paasta.AgentsPath+"/"+host)
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		node := paasta.AgentNode{}
		if err == nil {
			err = decode(data, &node, "the node of agent "+host)
		}
		if err != nil {
			return nil, err
		}
		return []paasta.AgentNode{node}, nil
	})
	return slices.Concat(nodes...), err
}

// views asks agents what they have for each registration; the answer is by
// registration, in the order of agents.
func (s *server) views(ctx context.Context, agents []paasta.AgentNode, registrations []string) map[string][]AgentView {
	// One host answers one registration after the other: a status must not be the
	// load that slows the agents. Its errors are in the views.
	hosts, _ := gather(agents, unlimited, func(agent paasta.AgentNode) (map[string]AgentView, error) {
		ctx, cancel := context.WithTimeout(ctx, agentWithin)
		defer cancel()
		views := map[string]AgentView{}
		for _, reg := range registrations {
			v := AgentView{Host: agent.Host}
			var answer paasta.AgentBackends
			if err := s.ask(ctx, agent.Status+"/v1/backends/"+url.PathEscape(reg), &answer); err != nil {
				v.Error = err.Error()
			}
			v.Backends, v.StaleSince = answer.Backends, answer.StaleSince
			for _, b := range answer.Backends {
				if b.Up {
					v.Up++
				}
			}
			views[reg] = v
		}
		return views, nil
	})
	views := map[string][]AgentView{}
	for _, reg := range registrations {
		for _, host := range hosts {
			views[reg] = append(views[reg], host[reg])
		}
	}
	return views
}

// ask GETs JSON from a part of ours. A 404 leaves v as it is: the part does not
// know the thing.
func (s *server) ask(ctx context.Context, address string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := s.asks.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) && u.Timeout() {
			return fmt.Errorf("GET %s: no answer in time", address)
		}
		return err // says method and URL
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // lets the connection be used again
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // the status says enough
		return fmt.Errorf("GET %s: %s: %s", address, resp.Status, strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("GET %s: read the answer: %w", address, err)
	}
	return nil
}

// decode reads JSON that another part of ours wrote; what names it in errors.
func decode(data []byte, v any, what string) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

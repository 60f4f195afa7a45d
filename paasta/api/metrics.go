package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/traffic"
)

const (
	// metricsWithin bounds how long an agent may take to tell its counts.
	metricsWithin = 5 * time.Second
	// metricsAtOnce is how many agents are asked at a time: all of them are, since
	// a caller may be anywhere.
	metricsAtOnce = 50
	// longestWindow is how far back agents look.
	longestWindow = 15 * time.Minute
	defaultWindow = 5 * time.Minute
)

// ServiceMetrics is the answer to GET /v1/services/{service}/metrics.
type ServiceMetrics struct {
	Cluster string `json:"cluster"`
	traffic.Report
	Notes []string `json:"notes,omitempty"` // what could not be asked, and why
}

func (s *server) serviceMetrics(w http.ResponseWriter, r *http.Request) error {
	_, svc, err := s.service(r)
	if err != nil {
		return err
	}
	window := defaultWindow
	if text := r.URL.Query().Get("window"); text != "" {
		if window, err = time.ParseDuration(text); err != nil || window <= 0 || window > longestWindow {
			return failf(http.StatusBadRequest, "", "window: is %q, want a duration of up to %s, e.g. 5m", text, longestWindow)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin-2*time.Second)
	defer cancel()
	m := ServiceMetrics{Cluster: s.Cluster}
	agents, notes := s.counts(ctx, svc.Name, window)
	desired, err := s.desired(ctx, svc)
	if err != nil {
		notes = append(notes, fmt.Sprintf("which version should run is unknown, so the one that came last counts as new: %v", err))
	}
	m.Report, m.Notes = traffic.New(svc.Name, agents, desired), notes
	if m.LinesDropped > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%d of %d requests on the hosts that were asked, since their agents started, are missing: HAProxy could not log them (see net.unix.max_dgram_qlen)",
			m.LinesDropped, m.LinesDropped+m.LinesCounted))
	}
	s.write(w, http.StatusOK, m)
	return nil
}

// desired returns what tells the commits that deployd wants in this cluster.
func (s *server) desired(ctx context.Context, svc *soaconfig.Service) (func(string) bool, error) {
	ctx, cancel := context.WithTimeout(ctx, zookeeperWithin)
	defer cancel()
	d, err := s.deployed(ctx, svc.Name)
	if err != nil {
		return nil, err
	}
	var commits []string
	for _, i := range svc.Instances[s.Cluster].Valid {
		if sha := d.Groups[i.DeployGroup].GitSHA; sha != "" {
			commits = append(commits, sha)
		}
	}
	return func(version string) bool {
		return version != "" && slices.ContainsFunc(commits, func(sha string) bool { return strings.HasPrefix(sha, version) })
	}, nil
}

// counts asks every agent what it knows about a service. Notes say which did not
// answer.
func (s *server) counts(ctx context.Context, service string, window time.Duration) (all []paasta.AgentMetrics, notes []string) {
	zkCtx, cancel := context.WithTimeout(ctx, metricsWithin)
	defer cancel()
	hosts, err := s.agentHosts(zkCtx)
	if err != nil {
		return nil, []string{fmt.Sprintf("the agents were not asked: %v", err)}
	}
	nodes, err := s.agents(zkCtx, hosts)
	if err != nil {
		notes = append(notes, fmt.Sprintf("not all agents were asked: %v", err))
	}
	if len(nodes) == 0 && err == nil {
		notes = append(notes, "no host announces an agent, so nobody counts requests")
	}
	query := url.Values{"service": {service}, "window": {window.String()}}.Encode()
	var silent []string
	var mu sync.Mutex
	answers, _ := gather(nodes, metricsAtOnce, func(node paasta.AgentNode) ([]paasta.AgentMetrics, error) {
		ctx, cancel := context.WithTimeout(ctx, metricsWithin)
		defer cancel()
		var m paasta.AgentMetrics
		err := s.ask(ctx, node.Status+"/v1/metrics?"+query, &m)
		if err == nil && m.Host == "" {
			err = fmt.Errorf("GET %s/v1/metrics: it does not know about metrics; is it an older agent?", node.Status)
		}
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			silent = append(silent, fmt.Sprintf("the agent of %s did not say what it counted: %v", node.Host, err))
			return nil, nil
		}
		return []paasta.AgentMetrics{m}, nil
	})
	slices.Sort(silent)
	const say = 5
	if n := len(silent) - say; n > 0 {
		silent = append(silent[:say], fmt.Sprintf("and %d more agents did not", n))
	}
	all = slices.Concat(answers...)
	slices.SortFunc(all, func(a, b paasta.AgentMetrics) int { return strings.Compare(a.Host, b.Host) })
	return all, append(notes, silent...)
}

// Metrics returns what the agents know about the requests of a service, within
// a window of up to 15 minutes (0: the server's default).
func (c *Client) Metrics(ctx context.Context, service string, window time.Duration) (ServiceMetrics, error) {
	path := "/v1/services/" + url.PathEscape(service) + "/metrics"
	if window > 0 {
		path += "?window=" + url.QueryEscape(window.String())
	}
	var m ServiceMetrics
	return m, c.get(ctx, path, &m)
}

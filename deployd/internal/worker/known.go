package worker

import (
	"sync"

	"github.com/gopaasta/paasta/deployd/internal/register"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/registry"
)

// Known remembers, from the latest reads, how many entries of this cluster each
// registration has, and which instances have entries where. It only says where
// to look and how many there are: what is changed is read again first.
type Known struct {
	Cluster string

	mu    sync.Mutex
	count map[string]map[string]int // registration → service → entries
	where map[paasta.InstanceID]map[string]bool
}

// Saw records one read of a registration.
func (k *Known) Saw(registration string, nodes []registry.Node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.count == nil {
		k.count, k.where = map[string]map[string]int{}, map[paasta.InstanceID]map[string]bool{}
	}
	counts := map[string]int{}
	seen := map[paasta.InstanceID]bool{}
	for _, n := range nodes {
		if n.Labels[registry.LabelCluster] != k.Cluster {
			continue
		}
		app, err := register.Owner(n.Labels[registry.LabelTaskID])
		if err != nil {
			continue
		}
		counts[app.Service]++
		seen[app.InstanceID] = true
		if k.where[app.InstanceID] == nil {
			k.where[app.InstanceID] = map[string]bool{}
		}
		k.where[app.InstanceID][registration] = true
	}
	for id, at := range k.where {
		if at[registration] && !seen[id] {
			delete(at, registration)
			if len(at) == 0 {
				delete(k.where, id)
			}
		}
	}
	k.count[registration] = counts
}

// Where returns the registrations that carry entries of an instance.
func (k *Known) Where(id paasta.InstanceID) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for name := range k.where[id] {
		names = append(names, name)
	}
	return names
}

// Instances returns the instances that have entries.
func (k *Known) Instances() []paasta.InstanceID {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ids []paasta.InstanceID
	for id := range k.where {
		ids = append(ids, id)
	}
	return ids
}

// Counts returns how many entries a service and the cluster have.
func (k *Known) Counts(service string) (ofService, ofCluster int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, counts := range k.count {
		for name, n := range counts {
			ofCluster += n
			if name == service {
				ofService += n
			}
		}
	}
	return ofService, ofCluster
}

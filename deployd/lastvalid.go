package deployd

import (
	"maps"
	"sync"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// lastValid remembers the instances of all clusters as soa-configs last said
// them validly, so that stops, starts, restarts and deploys, which need tags and
// not configs, work while a file is broken.
type lastValid struct {
	mu        sync.Mutex
	instances map[string]map[paasta.InstanceID]soaconfig.Instance // by cluster
}

// read takes what a new tree says. What is broken in it stays as it was.
func (l *lastValid) read(tree *soaconfig.Tree) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := map[string]map[paasta.InstanceID]soaconfig.Instance{}
	keep := func(cluster string, id paasta.InstanceID, i soaconfig.Instance) {
		if now[cluster] == nil {
			now[cluster] = map[paasta.InstanceID]soaconfig.Instance{}
		}
		now[cluster][id] = i
	}
	for cluster, instances := range l.instances {
		for id, i := range instances {
			if s := tree.Services[id.Service]; s != nil {
				if _, _, err := s.Instances[cluster].Find(id.Instance); err != nil {
					keep(cluster, id, i)
				}
			}
		}
	}
	for _, s := range tree.Services {
		for cluster, entries := range s.Instances {
			for name, i := range entries.Valid {
				keep(cluster, paasta.InstanceID{Service: s.Name, Instance: name}, i)
			}
		}
	}
	l.instances = now
}

// of returns an instance as it was last valid; ok is false when this process has
// never read it so.
func (l *lastValid) of(cluster string, id paasta.InstanceID) (i soaconfig.Instance, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok = l.instances[cluster][id]
	return i, ok
}

// service returns s with its broken instances as they were last valid. groups
// are the deploy groups of what runs in cluster, for those that never were.
func (l *lastValid) service(s *soaconfig.Service, cluster string, groups map[paasta.InstanceID]string) *soaconfig.Service {
	broken := false
	for _, entries := range s.Instances {
		broken = broken || len(entries.Invalid) > 0 || len(entries.Unreadable) > 0
	}
	if !broken {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	stands := *s
	stands.Instances = maps.Clone(s.Instances)
	for c, entries := range s.Instances {
		valid := maps.Clone(entries.Valid)
		add := func(id paasta.InstanceID, i soaconfig.Instance) {
			if _, _, err := entries.Find(id.Instance); id.Service != s.Name || err == nil {
				return
			}
			if _, ok := valid[id.Instance]; ok {
				return
			}
			if valid == nil {
				valid = map[string]soaconfig.Instance{}
			}
			valid[id.Instance] = i
		}
		for id, i := range l.instances[c] {
			add(id, i)
		}
		if c == cluster {
			for id, group := range groups {
				add(id, soaconfig.Instance{Service: id.Service, Name: id.Instance, Cluster: c, DeployGroup: group})
			}
		}
		entries.Valid = valid
		stands.Instances[c] = entries
	}
	return &stands
}

// Package deployments says what each instance of a service should run, from
// its tags and its soa-configs, in the shape and bytes of deployments.json.
// Everything in it is pure.
package deployments

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// ErrNotDeployed says that nobody has marked a commit for the instance's deploy group
// yet, or its file is older than the instance.
var ErrNotDeployed = errors.New("not deployed yet")

// File is one service's deployments.json.
type File struct {
	V1 map[string]V1 `json:"v1"` // by "service:paasta-cluster.instance"; for old readers
	V2 V2            `json:"v2"`
}

// V1 is what one instance should run, for old readers.
type V1 struct {
	DockerImage  string  `json:"docker_image"`
	DesiredState string  `json:"desired_state"`
	ForceBounce  *string `json:"force_bounce"`
}

// V2 is what every deploy group and instance should run.
type V2 struct {
	Deployments map[string]Deployment `json:"deployments"` // by deploy group
	Controls    map[string]Control    `json:"controls"`    // by "service:cluster.instance"
}

// A Deployment is what a deploy group runs.
type Deployment struct {
	DockerImage string `json:"docker_image"` // relative to the registry
	GitSHA      string `json:"git_sha"`
}

// A Control is the state of an instance. ForceBounce is null when nobody asked
// for a restart.
type Control struct {
	DesiredState string  `json:"desired_state"`
	ForceBounce  *string `json:"force_bounce"`
}

// A Target is what one instance should run.
type Target struct {
	DockerImage string // relative to the registry
	GitSHA      string // full
	State       paasta.State
}

// Generate returns what s's instances should run according to the tags. An
// instance whose group was never deployed is left out. Instances that soa-configs
// say wrongly are left out as well: whoever uses the result keeps for them what
// stood before (Keep).
func Generate(s *soaconfig.Service, log *paasta.TagLog) File {
	f := empty()
	for _, entries := range []map[string]soaconfig.Entries[soaconfig.Instance]{s.Instances, s.Adhoc} {
		for cluster, instances := range entries {
			for name, instance := range instances.Valid {
				deployed, ok := log.Latest(instance.DeployGroup)
				if !ok {
					continue
				}
				image := paasta.ImageName(s.Name, deployed.SHA)
				state := log.State(instance.DeployGroup, cluster, name)
				var bounce *string
				if state.ForceBounce != "" {
					bounce = &state.ForceBounce
				}
				f.V2.Deployments[instance.DeployGroup] = Deployment{image, deployed.SHA}
				f.V2.Controls[controlKey(s.Name, cluster, name)] = Control{state.Desired, bounce}
				f.V1[v1Key(s.Name, cluster, name)] = V1{image, state.Desired, bounce}
			}
		}
	}
	return f
}

// Keep adds to f what before said about the instances that are broken in
// soa-configs now, so that a typo changes nothing that runs.
func (f File) Keep(s *soaconfig.Service, before File) {
	for _, entries := range []map[string]soaconfig.Entries[soaconfig.Instance]{s.Instances, s.Adhoc} {
		for cluster, instances := range entries {
			for key, control := range before.V2.Controls {
				name, ok := strings.CutPrefix(key, s.Name+":"+paasta.InstanceTarget(cluster, ""))
				if _, known := f.V2.Controls[key]; !ok || known {
					continue
				}
				if _, _, err := instances.Find(name); err == nil {
					continue // sound, or certainly gone
				}
				f.V2.Controls[key] = control
				if v1, ok := before.V1[v1Key(s.Name, cluster, name)]; ok {
					f.V1[v1Key(s.Name, cluster, name)] = v1
				}
				// Its group cannot be read: keep those that nobody else has.
				for group, d := range before.V2.Deployments {
					if _, ok := f.V2.Deployments[group]; !ok {
						f.V2.Deployments[group] = d
					}
				}
			}
		}
	}
}

func empty() File {
	return File{V1: map[string]V1{}, V2: V2{Deployments: map[string]Deployment{}, Controls: map[string]Control{}}}
}

func controlKey(service, cluster, instance string) string {
	return service + ":" + paasta.InstanceTarget(cluster, instance)
}

func v1Key(service, cluster, instance string) string {
	return service + ":paasta-" + paasta.InstanceTarget(cluster, instance)
}

// Encode returns the text of f: indented by two spaces, keys sorted, with a
// final newline. Equal files give equal bytes.
func Encode(f File) []byte {
	filled := empty() // null maps would surprise old readers
	if f.V1 != nil {
		filled.V1 = f.V1
	}
	if f.V2.Deployments != nil {
		filled.V2.Deployments = f.V2.Deployments
	}
	if f.V2.Controls != nil {
		filled.V2.Controls = f.V2.Controls
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(filled); err != nil {
		panic(err) // strings in maps can always be written
	}
	return b.Bytes()
}

// Decode reads the text of a deployments.json, ours or the original's.
func Decode(text []byte) (File, error) {
	f := empty()
	if err := json.Unmarshal(text, &f); err != nil {
		return File{}, fmt.Errorf("deployments.json: %w", err)
	}
	for group, d := range f.V2.Deployments {
		if !paasta.IsSHA(d.GitSHA) {
			return File{}, fmt.Errorf("deployments.json: v2.deployments.%s: git_sha %.60q is no full commit id", group, d.GitSHA)
		}
	}
	for key, c := range f.V2.Controls {
		if c.DesiredState != string(paasta.TagStart) && c.DesiredState != string(paasta.TagStop) && c.DesiredState != "" {
			return File{}, fmt.Errorf("deployments.json: v2.controls.%s: desired_state %.60q is neither start nor stop", key, c.DesiredState)
		}
	}
	return f, nil
}

// For returns what an instance should run. An instance without a control of its
// own, because it is newer than the file, starts; one whose group was never
// deployed is ErrNotDeployed.
func (f File) For(service, cluster, instance, group string) (Target, error) {
	d, ok := f.V2.Deployments[group]
	if !ok {
		return Target{}, fmt.Errorf("%s.%s: deploy group %s: %w", service, instance, group, ErrNotDeployed)
	}
	t := Target{DockerImage: d.DockerImage, GitSHA: d.GitSHA, State: paasta.State{Desired: string(paasta.TagStart)}}
	if t.DockerImage == "" {
		t.DockerImage = paasta.ImageName(service, d.GitSHA)
	}
	c := f.V2.Controls[controlKey(service, cluster, instance)]
	if c.DesiredState != "" {
		t.State.Desired = c.DesiredState
	}
	if c.ForceBounce != nil {
		t.State.ForceBounce = *c.ForceBounce
	}
	return t, nil
}

package deployments_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

const (
	x = "591ae8a7b3224e3b3322370b858377dd6ef335b6"
	y = "2222222222222222222222222222222222222222"
)

func tag(minute int, target string, kind paasta.TagKind, sha string) paasta.Tag {
	return paasta.Tag{Target: target, Time: time.Date(2019, 9, 6, 4, minute, 11, 0, time.UTC), Kind: kind, SHA: sha}
}

func service(groups map[string]string) *soaconfig.Service {
	sound := map[string]soaconfig.Instance{}
	for name, group := range groups {
		sound[name] = soaconfig.Instance{Service: "web", Cluster: "norcal-prod", Name: name, DeployGroup: group}
	}
	return &soaconfig.Service{Name: "web", Instances: map[string]soaconfig.Entries[soaconfig.Instance]{"norcal-prod": {Valid: sound}}}
}

// The bytes are read by others, so they are pinned.
const file = `{
  "v1": {
    "web:paasta-norcal-prod.canary": {
      "docker_image": "services-web:paasta-591ae8a7b3224e3b3322370b858377dd6ef335b6",
      "desired_state": "stop",
      "force_bounce": "20190906T043511"
    },
    "web:paasta-norcal-prod.main": {
      "docker_image": "services-web:paasta-591ae8a7b3224e3b3322370b858377dd6ef335b6",
      "desired_state": "start",
      "force_bounce": null
    }
  },
  "v2": {
    "deployments": {
      "prod.main": {
        "docker_image": "services-web:paasta-591ae8a7b3224e3b3322370b858377dd6ef335b6",
        "git_sha": "591ae8a7b3224e3b3322370b858377dd6ef335b6"
      }
    },
    "controls": {
      "web:norcal-prod.canary": {
        "desired_state": "stop",
        "force_bounce": "20190906T043511"
      },
      "web:norcal-prod.main": {
        "desired_state": "start",
        "force_bounce": null
      }
    }
  }
}
`

func TestGenerate(t *testing.T) {
	t.Parallel()
	s := service(map[string]string{"main": "prod.main", "canary": "prod.main", "new": "prod-main"})
	log := paasta.NewTagLog([]paasta.Tag{
		tag(1, "prod.main", paasta.TagDeploy, y),
		tag(2, "prod.main", paasta.TagDeploy, x),
		tag(35, "norcal-prod.canary", paasta.TagStop, x),
		tag(36, "other.main", paasta.TagStop, x),
	})
	f := deployments.Generate(s, log)
	if diff := cmp.Diff(file, string(deployments.Encode(f))); diff != "" {
		t.Errorf("deployments.json (-want +got):\n%s", diff)
	}
	again, err := deployments.Decode([]byte(file))
	if diff := cmp.Diff(f, again); err != nil || diff != "" {
		t.Errorf("read back: %v\n%s", err, diff)
	}

	got, err := f.For("web", "norcal-prod", "canary", "prod.main")
	want := deployments.Target{DockerImage: "services-web:paasta-" + x, GitSHA: x, State: paasta.State{Desired: "stop", ForceBounce: "20190906T043511"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("canary: %v\n%s", err, diff)
	}
	// Newer than the file, of a group that is deployed: it starts.
	if got, err := f.For("web", "norcal-prod", "newest", "prod.main"); err != nil || got.State.Desired != "start" {
		t.Errorf("newest: %+v, %v", got, err)
	}
	if _, err := f.For("web", "norcal-prod", "new", "prod-main"); !errors.Is(err, deployments.ErrNotDeployed) {
		t.Errorf("new: %v", err)
	}
}

// A typo in soa-configs changes nothing that runs; a removed instance goes.
func TestKeep(t *testing.T) {
	t.Parallel()
	before := deployments.Generate(service(map[string]string{"main": "a", "canary": "b", "gone": "a"}), paasta.NewTagLog([]paasta.Tag{
		tag(1, "a", paasta.TagDeploy, x), tag(1, "b", paasta.TagDeploy, x),
	}))
	s := service(map[string]string{"main": "a"})
	entries := s.Instances["norcal-prod"]
	entries.Invalid = map[string]soaconfig.Problems{"canary": {{Text: "broken"}}}
	s.Instances["norcal-prod"] = entries
	f := deployments.Generate(s, paasta.NewTagLog([]paasta.Tag{tag(2, "a", paasta.TagDeploy, y)}))
	f.Keep(s, before)
	if got, err := f.For("web", "norcal-prod", "canary", "b"); err != nil || got.GitSHA != x {
		t.Errorf("canary: %+v, %v", got, err)
	}
	if got, err := f.For("web", "norcal-prod", "main", "a"); err != nil || got.GitSHA != y {
		t.Errorf("main: %+v, %v", got, err)
	}
	if _, ok := f.V2.Controls["web:norcal-prod.gone"]; ok {
		t.Error("gone is still there")
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"not JSON":      `v1`,
		"a short sha":   `{"v2":{"deployments":{"a":{"git_sha":"abc"}}}}`,
		"another state": `{"v2":{"controls":{"a":{"desired_state":"paused"}}}}`,
		"a wrong shape": `{"v2":[]}`,
	} {
		if f, err := deployments.Decode([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, f)
		}
	}
	if f, err := deployments.Decode([]byte(`{}`)); err != nil || f.V2.Controls == nil {
		t.Errorf("empty: %+v, %v", f, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(file))
	f.Fuzz(func(t *testing.T, text []byte) {
		one, err := deployments.Decode(text)
		if err != nil {
			return
		}
		if _, err := deployments.Decode(deployments.Encode(one)); err != nil {
			t.Errorf("what Encode wrote is refused: %v", err)
		}
	})
}

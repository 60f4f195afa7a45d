package soaconfig

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Texts of soa-configs become arguments of git, ssh, docker and other programs. None
// of them can begin with a dash but those of these keys, which is why they may.
var mayBeginWithADash = map[string]string{
	"args": "stand behind the image", "cmd": "is for a shell, in the task's container", "healthcheck_cmd": "is for a shell, in the task's container",
	"env": "is NAME=VALUE in one argument", "extra_docker_args": "is --NAME=VALUE in one argument",
	"build": "is joined to a directory", "files (name)": "is joined to a directory", "log": "is a regular expression of ours",

	"pool": "is JSON for Marathon", "constraints": "is JSON for Marathon", "extra_constraints": "is JSON for Marathon",
	"deploy_blacklist": "is JSON for Marathon", "deploy_whitelist": "is JSON for Marathon",

	"extra_headers": "is quoted for HAProxy", "extra_healthcheck_headers": "is quoted for HAProxy", "healthcheck_body_expect": "is quoted for HAProxy",

	"team": "is an environment variable", "description": "is shown", "runbook": "is shown", "tip": "is shown",
	"component": "is not used", "irc_channels": "is not used", "monitoring_blacklist": "is not used", "notification_email": "is not used",
	"priority": "is not used", "project": "is not used", "slack_channels": "is not used", "tags": "is not used",
}

// texts calls each for every text below s that is not one of fixed words.
func texts(s *shape, path string, each func(path string, p *pattern)) {
	if s.kind == text && !s.anyKind && s.either == nil && len(s.enum) == 0 {
		each(path, s.textPattern())
	}
	for _, k := range s.keys {
		texts(k.shape, path+"."+k.name, each)
	}
	if s.names != nil {
		each(path+" (name)", s.names)
	}
	for _, below := range slices.Concat([]*shape{s.elem}, s.tuple, s.either) {
		if below != nil {
			texts(below, path, each)
		}
	}
}

func TestTextsThatMayBeginWithADash(t *testing.T) {
	t.Parallel()
	got := map[string]bool{}
	for _, f := range schemaFiles {
		each := func(path string, p *pattern) {
			if p.re.MatchString("--privileged") || p.re.MatchString("-oProxyCommand=x") {
				got[path[strings.LastIndex(path, ".")+1:]] = true
			}
		}
		if f.names != nil {
			each(f.name+" (name)", f.names)
		}
		texts(f.shape, f.name, each)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(mayBeginWithADash)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

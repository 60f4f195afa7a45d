package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
)

// pull fetches an image. Any number of tasks that want one image at once wait
// for one pull.
func (e *Engine) pull(ctx context.Context, name, sandbox string) error {
	auth := credentials(name, sandbox)
	result := e.pulls.DoChan(name+"\n"+auth, func() (any, error) {
		// In the context of Run: the task that asked first may be killed.
		return nil, e.docker.Pull(e.ctx, name, auth, nil)
	})
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// credentials returns what the task's fetched files say of an image's registry:
// .dockercfg, or .docker/config.json, as Mesos does it. "" when they say nothing.
func credentials(name, sandbox string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	domain := reference.Domain(ref)
	for _, file := range []string{".dockercfg", ".docker/config.json", "config.json"} {
		text, err := os.ReadFile(filepath.Join(sandbox, file))
		if err != nil {
			continue
		}
		var hosts map[string]registry.AuthConfig
		var config struct {
			Auths map[string]registry.AuthConfig
		}
		if bytes.Contains(text, []byte(`"auths"`)) {
			err = json.Unmarshal(text, &config)
			hosts = config.Auths
		} else {
			err = json.Unmarshal(text, &hosts)
		}
		if err != nil {
			continue // not a file of credentials
		}
		for host, a := range hosts {
			host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
			if host, _, _ = strings.Cut(host, "/"); host != domain {
				continue
			}
			if decoded, err := base64.StdEncoding.DecodeString(a.Auth); err == nil && a.Username == "" {
				a.Username, a.Password, _ = strings.Cut(string(decoded), ":")
			}
			if text, err := registry.EncodeAuthConfig(a); err == nil {
				return text
			}
		}
	}
	return ""
}

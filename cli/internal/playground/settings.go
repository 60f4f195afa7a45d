//go:build linux

package playground

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	soaconfigs "github.com/gopaasta/paasta/soa-configs"
)

// writeSettings writes the files that the daemons and DIR/env's shells read,
// and, once, the soa-configs.
func (p *Playground) writeSettings() error {
	secrets, err := p.makeSecrets()
	if err != nil {
		return err
	}
	for _, dir := range []string{p.path("etc"), p.path("run"), p.path("logs"), p.path("services.d"), p.GitDir(), p.path("zookeeper"), p.path("registry"), p.runtime("smartstack")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	system, err := json.MarshalIndent(map[string]any{
		"cluster":                   Cluster,
		"clusters":                  []string{Cluster},
		"soa_dir":                   p.SoaDir(),
		"zookeeper":                 p.at(PortZooKeeper),
		"zookeeper_auth":            "paasta:" + secrets.zooKeeper,
		"docker_registry":           p.Registry(),
		"volumes":                   []any{},
		"expected_agent_attributes": p.agentAttributes(),
		"location":                  map[string]string{"ecosystem": Cluster, "superregion": Cluster, "region": Cluster},
		"marathon_servers":          []any{map[string]any{"url": []string{"http://" + p.at(PortMarathon)}, "user": "paasta", "password": secrets.marathon}},
		"api_endpoints":             map[string]string{Cluster: "http://" + p.at(PortAPI)},
		"local_run_cluster":         Cluster,
		"drain_grace":               "0s", // nobody reads the registry as synapse does
		"api":                       map[string]any{"listen": p.at(PortAPI)},
		"smartstack": map[string]any{
			"state_dir":    p.runtime("smartstack"),
			"services_dir": p.path("services.d"),
			"stats_listen": "127.0.0.1:3212", // the link to the host leads to all others
		},
	}, "", "  ")
	if err != nil {
		panic(err) // strings, lists and maps
	}
	var agents []any
	for _, attributes := range p.agentAttributes() {
		agents = append(agents, map[string]any{"attributes": attributes})
	}
	agentList, err := json.MarshalIndent(agents, "", "  ")
	if err != nil {
		panic(err) // lists and maps of strings
	}
	private := map[string]bool{"etc/paasta.json": true, "env": true}
	files := map[string]string{
		"agents.json":          string(agentList) + "\n",
		"etc/paasta.json":      string(system) + "\n",
		"env":                  p.envFile(secrets),
		"dockerd.json":         "{}\n", // so that the machine's own /etc/docker/daemon.json does not count
		"zookeeper/zoo.cfg":    p.zooCfg(),
		"registry/config.yaml": p.registryConfig(),
	}
	for name, text := range files {
		path, mode := p.path(filepath.FromSlash(name)), os.FileMode(0o644)
		if private[name] {
			mode = 0o600
		}
		if old, err := os.ReadFile(path); err == nil && string(old) == text {
			if err := os.Chmod(path, mode); err != nil { // an older paasta may have made it
				return err
			}
			continue
		}
		if err := atomicfile.Write(path, []byte(text), mode); err != nil {
			return err
		}
	}
	return p.copySoaConfigs()
}

// agentAttributes says what each virtual agent is, in the words that soa-configs
// place instances by.
func (p *Playground) agentAttributes() []map[string]string {
	var all []map[string]string
	for n := 1; n <= p.Agents; n++ {
		all = append(all, map[string]string{
			"pool": "default", "ecosystem": Cluster, "superregion": Cluster, "region": Cluster,
			"habitat": fmt.Sprintf("%s-%d", Cluster, n),
		})
	}
	return all
}

func (p *Playground) zooCfg() string {
	return fmt.Sprintf(`tickTime=2000
dataDir=%s
clientPort=%d
clientPortAddress=%s
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=ruok,srvr,mntr,isro
autopurge.purgeInterval=1
`, p.path("zookeeper", "data"), PortZooKeeper, p.Address)
}

func (p *Playground) registryConfig() string {
	return fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q}
`, p.path("registry", "data"), p.Registry())
}

// copySoaConfigs puts the example tree in place. What a person has changed
// since stays.
func (p *Playground) copySoaConfigs() error {
	return fs.WalkDir(soaconfigs.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		target := filepath.Join(p.SoaDir(), filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case strings.HasSuffix(path, ".go"):
			return nil
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		text, err := fs.ReadFile(soaconfigs.Files, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o644)
	})
}

// Environment is what a shell or a daemon needs to use the playground, as
// "KEY=value".
func (p *Playground) Environment() []string {
	return []string{
		"PAASTA_SYSTEM_CONFIG_DIR=" + p.path("etc"),
		"PAASTA_SOA_DIR=" + p.SoaDir(),
		"PAASTA_PLAYGROUND=" + p.Dir,
		"PAASTA_PLAYGROUND_ADDRESS=" + p.Address,
		"DOCKER_HOST=" + p.DockerHost(),
	}
}

// envFile is Environment for a shell, with the secrets, and paasta itself in the
// PATH.
func (p *Playground) envFile(s secrets) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# For a shell that uses the playground: . %s\n", quote(p.path("env")))
	for _, kv := range append(p.Environment(), "PAASTA_PLAYGROUND_TOKEN="+s.marathon) {
		key, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&b, "export %s=%s\n", key, quote(value))
	}
	fmt.Fprintf(&b, "export PATH=%s:\"$PATH\"\n", quote(filepath.Dir(p.Binary)))
	return b.String()
}

// quote writes s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// EnvironmentOver is the environment of this process with the playground's over
// it. Other settings of PaaSTA are taken out, so that the caller's shell does
// not change what the playground is.
func (p *Playground) EnvironmentOver() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PAASTA_") || strings.HasPrefix(kv, "DOCKER_")
	})
	return append(env, p.Environment()...)
}

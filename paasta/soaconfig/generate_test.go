package soaconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// generate writes n services in the given clusters, as large ones are: a
// template, three instances a cluster, two namespaces, a pipeline.
func generate(t testing.TB, n int, clusters ...string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(service, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, service, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		s := fmt.Sprintf("service-%04d", i)
		if err := os.Mkdir(filepath.Join(dir, s), 0o755); err != nil {
			t.Fatal(err)
		}
		next := fmt.Sprintf("service-%04d", (i+1)%n)
		write(s, "service.yaml", "description: Service number "+fmt.Sprint(i)+"\ngit_url: git@git.example.com:services/"+s+"\n")
		write(s, "monitoring.yaml", "team: team"+fmt.Sprint(i%20)+"\npage: true\nrunbook: y/rb-"+s+"\nslack_channels: ['#a', '#b']\n")
		write(s, "smartstack.yaml", fmt.Sprintf(`main:
  proxy_port: %d
  advertise: [region, superregion]
  discover: region
  timeout_server_ms: 2000
  extra_headers: {X-Service: %s}
canary:
  proxy_port: null
`, 20000+i, s))
		write(s, "dependencies.yaml", "main:\n- smartstack: "+next+".main\n- well-known: internet\n")
		pipeline := "pipeline:\n- step: itest\n- step: push-to-registry\n"
		for _, c := range clusters {
			pipeline += "- step: " + c + ".canary\n- step: " + c + ".main\n"
			write(s, "marathon-"+c+".yaml", fmt.Sprintf(`---
_template: &template
  cpus: .2
  mem: 500
  env: {LOG_LEVEL: info, CLUSTER: %[1]s}
  extra_volumes:
  - {hostPath: /nail/etc, containerPath: /nail/etc, mode: RO}
  healthcheck_grace_period_seconds: 60
main:
  <<: *template
  deploy_group: %[1]s.main
  min_instances: 3
  max_instances: 12
  bounce_margin_factor: .9
  registrations: [%[2]s.main]
canary:
  <<: *template
  deploy_group: %[1]s.canary
  instances: 1
  registrations: [%[2]s.main, %[2]s.canary]
worker:
  <<: *template
  deploy_group: "{cluster}.main"
  cmd: exec run-worker
  instances: 2
`, c, s))
		}
		write(s, "deploy.yaml", pipeline)
	}
	return dir
}

// BenchmarkValidate1000x3 reads and checks 1,000 services in 3 clusters, 8,000
// files, which must stay under a second.
func BenchmarkValidate1000x3(b *testing.B) {
	dir := generate(b, 1000, "norcal", "nova", "sfo")
	for b.Loop() {
		tree, err := Load(b.Context(), dir, Options{Clusters: []string{"norcal", "nova", "sfo"}})
		if err != nil {
			b.Fatal(err)
		}
		if len(tree.Problems) > 0 || len(tree.Services) != 1000 {
			b.Fatalf("%d services, %s", len(tree.Services), tree.Problems[:1])
		}
	}
}

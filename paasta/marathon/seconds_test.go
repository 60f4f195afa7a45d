package marathon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/docker/marathon/marathontest"
	"github.com/gopaasta/paasta/paasta/marathon"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// Marathon takes whole seconds. What soa-configs say in fractions arrives rounded
// up, never cut, and validate has named the number before.
func TestFractionsOfSecondsArriveRoundedUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "web", "marathon-norcal.yaml"), []byte(`main:
  healthcheck_mode: tcp
  healthcheck_interval_seconds: 0.5
  healthcheck_timeout_seconds: 1.9
  healthcheck_grace_period_seconds: 0.001
  max_launch_delay_seconds: 2.0001
`), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := soaconfig.Load(t.Context(), dir, soaconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, p := range tree.Problems {
		said = append(said, fmt.Sprintf("%s %d: %s", p.Class, p.Line, p.Text))
	}
	if diff := cmp.Diff([]string{
		"wrong 3: is 0.5: Marathon takes whole seconds, so 1 is used",
		"wrong 4: is 1.9: Marathon takes whole seconds, so 2 is used",
		"wrong 5: is 0.001: Marathon takes whole seconds, so 1 is used",
		"wrong 6: is 2.0001: Marathon takes whole seconds, so 3 is used",
	}, said); diff != "" {
		t.Errorf("validate (-want +got):\n%s", diff)
	}
	formed, err := marathon.BuildApp(marathon.AppInput{
		Instance: tree.Services["web"].Instances["norcal"].Valid["main"], Size: 1,
		Deployment: marathon.Deployment{Image: "services-web:paasta-0123456789012345678901234567890123456789", GitSHA: "0123456789012345678901234567890123456789"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := marathontest.Start(t)
	c, err := marathon.New(marathon.Options{URLs: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), formed.Definition); err != nil {
		t.Fatal(err)
	}
	sent := s.Definition(formed.Definition.ID)
	check := sent["healthChecks"].([]any)[0].(map[string]any)
	got := map[string]any{
		"interval": check["intervalSeconds"], "timeout": check["timeoutSeconds"],
		"grace": check["gracePeriodSeconds"], "launch delay": sent["maxLaunchDelaySeconds"],
	}
	if diff := cmp.Diff(map[string]any{"interval": 1., "timeout": 2., "grace": 1., "launch delay": 3.}, got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

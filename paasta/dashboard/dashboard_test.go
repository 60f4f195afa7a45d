package dashboard

import (
	"strings"
	"testing"
	"time"
)

func TestRenderServices(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := RenderServices(&b, Services{
		Cluster: "test", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Every: 5,
		Rows: []Row{
			{Service: "web", Instance: "main", GitSHA: "591ae8a7b3224e3b", Status: "Running", Running: 3, Healthy: 3, Expected: 3, Bounce: "steady", Deployed: true, OK: true},
			{Service: "web", Instance: "canary", Status: "NotRunning", Expected: 1, Bounce: "waiting", Why: "<script>alert(1)</script>", Deployed: true},
			{Service: "web", Instance: "new", Status: "NotDeployed", Expected: 1, Bounce: "waiting", Why: "nobody asked"},
		},
		Notes: []string{"Marathon does not answer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<title>(1) PaaSTA test</title>", "<code>591ae8a7</code>", "3 of 3", "3 instances, <span class=\"bad\">1 not as they should be</span>, 1 not deployed.", "<td>NotDeployed</td>", "&lt;script&gt;", "not deployed",
		"2026-01-02 03:04:05 UTC", `content="5"`, "Marathon does not answer", `href="/v1/services/web/main/status"`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "nobody asked") || strings.Contains(b.String(), "<script>") || strings.Contains(b.String(), "http://") || strings.Contains(b.String(), "https://") {
		t.Errorf("a page must not run or load what is not its own:\n%s", b.String())
	}
}

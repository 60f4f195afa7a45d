//go:build linux

package dockertest_test

import (
	"testing"

	"github.com/gopaasta/paasta/docker/dockertest"
)

func TestEngineBuildsAndComesBack(t *testing.T) {
	e := dockertest.Start(t)
	e.Build("probe:1", dockertest.Probe, "EXPOSE 8888")
	e.Kill()
	e.Restart()
	if got := e.Containers("com.example.none"); len(got) != 0 {
		t.Errorf("containers %v, want none", got)
	}
}

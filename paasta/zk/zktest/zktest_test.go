package zktest

import (
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	if answer, err := s.Command("ruok"); err != nil || answer != "imok" {
		t.Fatalf("ruok: %q, %v", answer, err)
	}
	s.Stop()
	if answer, err := s.Command("ruok"); err == nil && answer != "" {
		t.Errorf("stopped, and still answers %q", answer)
	}
	s.Restart()
	s.Pause()
	if answer, err := s.Command("ruok"); err == nil {
		t.Errorf("paused, and still answers %q", answer)
	}
	s.Resume()
	s.wait()
}

func TestEnsemble(t *testing.T) {
	t.Parallel()
	servers := StartEnsemble(t)
	leaders := 0
	for _, s := range servers {
		answer, err := s.Command("srvr")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(answer, "Mode: leader") {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders, want 1", leaders)
	}
}

package task

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// Whatever is under way when an engine freezes ends, and says why.
func TestFrozenEngine(t *testing.T) {
	paastatest.Need(t, "docker")
	docker := dockertest.Start(t)
	docker.Build("probe", dockertest.Probe)
	out, err := exec.Command("docker", "--host", docker.Host, "run", "--detach", "--label", "MESOS_TASK_ID=web.1", "probe").Output()
	if err != nil {
		t.Fatal(err)
	}
	e, err := Dial(t.Context(), docker.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	id, err := e.Find(t.Context(), "web", "main", "web.1")
	if err != nil || id != strings.TrimSpace(string(out)) {
		t.Fatalf("the task's container is %q, %v, want %s", id, err, out)
	}
	e.docker.Patience = 2 * time.Second
	// A session that never says anything more.
	silence, held := io.Pipe()
	defer held.Close()
	said, begun := io.Pipe()
	session := make(chan error, 1)
	go func() {
		_, err := e.Exec(t.Context(), id, Session{Argv: []string{"/main", "-listen", ":9999"}, In: silence, Out: begun, Err: begun})
		session <- err
	}()
	if _, err := said.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	docker.Freeze()

	ends := map[string]func(context.Context) error{
		"a session that is under way": func(context.Context) error { return <-session },
		"docker-exec": func(ctx context.Context) error {
			_, err := e.Exec(ctx, id, Session{Argv: []string{"/main", "true"}, Out: io.Discard, Err: io.Discard})
			return err
		},
		"docker-inspect": func(ctx context.Context) error { _, err := e.Inspect(ctx, id); return err },
		"docker-stop":    func(ctx context.Context) error { return e.Stop(ctx, id, time.Second) },
		"the next command": func(ctx context.Context) error {
			_, err := Dial(ctx, docker.Host)
			return err
		},
	}
	t.Run("ends", func(t *testing.T) {
		for what, end := range ends {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
				defer cancel()
				err := end(ctx)
				var hinted command.HintedError
				if !errors.Is(err, daemon.ErrSilent) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "restart Docker") {
					t.Errorf("it ends with %v, its hint %q", err, hinted.Hint)
				}
			})
		}
	})
	docker.Thaw()
	if _, err := e.Inspect(t.Context(), id); err != nil {
		t.Errorf("thawed: %v", err)
	}
}

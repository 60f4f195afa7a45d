package image

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

const missing = `DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
            Install the buildx component to build images with BuildKit:
            https://docs.docker.com/go/buildx/

`

func TestWithoutNotice(t *testing.T) {
	t.Parallel()
	const long = "DEPRECATED: The legacy builder is deprecated\n1\n2\n3\n4\n5\n"
	for text, want := range map[string]string{
		missing:                      "",
		"a\n" + missing + "b\n":      "a\nb\n",
		missing + missing + "b":      "b",
		"DEPRECATED: my own\n\nb\n":  "DEPRECATED: my own\n\nb\n",
		"DEPRECATED: The legacy":     "DEPRECATED: The legacy",
		"x" + missing:                "x" + missing,
		long + "no empty line\n\n":   "no empty line\n\n",
		"\n\nprogress 1\rprogress 2": "\n\nprogress 1\rprogress 2",
	} {
		for size := range len(text) {
			var got strings.Builder
			w := &withoutNotice{w: &got}
			for rest := text; rest != ""; {
				n := min(size+1, len(rest))
				if m, err := w.Write([]byte(rest[:n])); m != n || err != nil {
					t.Fatal(m, err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil || got.String() != want {
				t.Fatalf("%q, %d bytes at a time: %q, %v, want %q", text, size+1, got.String(), err, want)
			}
		}
	}
	var got strings.Builder
	w := &withoutNotice{w: &got}
	if _, err := w.Write([]byte("Password: ")); err != nil || got.String() != "Password: " {
		t.Errorf("a line that has not ended waits: %q, %v", got.String(), err)
	}
}

// A docker build in a target uses BuildKit where the docker command has it, and
// says nothing of it where it does not.
func TestBuilder(t *testing.T) {
	paastatest.Need(t, "docker")
	paastatest.Need(t, "make")
	engine := dockertest.Start(t)
	t.Setenv("DOCKER_HOST", engine.Host)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nCOPY Makefile /\n")
	write(t, filepath.Join(dir, "Makefile"), "cook-image:\n\t@echo cooking >&2; docker build --tag $(DOCKER_TAG) .\n")
	var said strings.Builder
	if err := (Target{Dir: dir, Name: "cook-image", DockerTag: "cooked:1", Out: &said, Err: &said}).Make(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	step := "Step 1/2"
	if hasBuildx(t.Context()) {
		step = "#1 "
	}
	if text := said.String(); !strings.Contains(text, "cooking") || !strings.Contains(text, step) || strings.Contains(text, "DEPRECATED") {
		t.Errorf("it says\n%s", text)
	}
}

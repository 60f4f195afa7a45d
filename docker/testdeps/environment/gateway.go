package environment

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/gopaasta/paasta/docker/testdeps/gateway"
	"github.com/gopaasta/paasta/paasta/command"
)

// gatewayProgram is the main package of the gateway, for programs that are not
// paasta: tests, which have the go tool at hand.
const gatewayProgram = "github.com/gopaasta/paasta/docker/testdeps/gateway/program"

// gatewayImage is made on the engine when it has none of this version.
func gatewayImage() string { return "paasta-test-deps-gateway:" + gateway.Version() }

// gateway starts the environment's gateway.
func (u *up) gateway(ctx context.Context, trees <-chan treeOrError) error {
	if err := u.e.gatewayImage(ctx, u.o.Self); err != nil {
		return err
	}
	tree := <-trees
	if tree.err != nil {
		return tree.err
	}
	free, err := u.startSlot(ctx)
	if err != nil {
		return err
	}
	defer free()
	asker, ended, err := u.runGateway(ctx, gatewayConfig(u.g, tree.tree, u.layout, u.place, u.checksOf()))
	free()
	if err != nil {
		return err
	}
	// It answers when all is in place.
	answered := make(chan error, 1)
	go func() {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err := asker.ask(limited, gateway.Question{})
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return fmt.Errorf("it does not answer: %w", err)
		}
		u.x.gatewayRuns = true
		close(u.gatewayUp)
		return nil
	case err := <-ended:
		return fmt.Errorf("%w: %s", err, strings.Join(u.e.lastLines(ctx, u.x.gateway, 5), "; "))
	}
}

// runGateway makes and starts it.
func (u *up) runGateway(ctx context.Context, c gateway.Config) (*asker, <-chan error, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	f := formed{
		config: &container.Config{
			Image: gatewayImage(), Labels: maps.Clone(u.place.labels), Hostname: "gateway",
			User: "0:0", OpenStdin: true,
		},
		host: &container.HostConfig{
			CapDrop: []string{"ALL"}, CapAdd: []string{"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"},
			Sysctls:   map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.send_redirects": "0"},
			LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "5m", "max-file": "2"}},
			Resources: container.Resources{Memory: 256 << 20},
		},
	}
	f.config.Labels[roleLabel] = "gateway"
	// A variable costs nothing, a file some 50 ms; but variables have a limit.
	short := len(text) < 100_000
	if short {
		f.config.Env = []string{gateway.ConfigVariable + "=" + string(text)}
	}
	f.join(u.place, u.layout.gateway(), nil)
	id, err := u.create(ctx, containerName(u.x.Name, "_starting"), f)
	if err != nil {
		return nil, nil, explain(err)
	}
	u.x.gateway = id
	if !short {
		if err := u.e.copyIn(ctx, id, map[string][]byte{strings.TrimPrefix(gateway.ConfigFile, "/"): text}); err != nil {
			return nil, nil, explain(err)
		}
	}
	// Before it starts, so that no answer is missed.
	asker, err := u.e.attach(ctx, id)
	if err != nil {
		return nil, nil, explain(err)
	}
	u.x.asker = asker
	ended, err := u.start(ctx, id)
	if err != nil {
		return nil, nil, explain(err)
	}
	return asker, ended, nil
}

// copyIn writes files into a container's root.
func (e *Engine) copyIn(ctx context.Context, id string, files map[string][]byte) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return e.docker.CopyToContainer(ctx, id, "/", &b, container.CopyToContainerOptions{})
}

// gatewayImage makes the gateway's image unless it is there.
func (e *Engine) gatewayImage(ctx context.Context, self bool) error {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	_, err := e.docker.ImageInspect(ctx, gatewayImage())
	if !errdefs.IsNotFound(err) {
		return explain(err) // nil, as a rule
	}
	program, entrypoint, err := gatewayBinary(ctx, self)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "gateway", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	r, err := e.docker.ImageImport(ctx, image.ImportSource{Source: &b, SourceName: "-"}, gatewayImage(), image.ImportOptions{
		Changes: []string{"ENTRYPOINT " + entrypoint, "LABEL paasta.test-deps.image=gateway"},
	})
	if err != nil {
		return explain(fmt.Errorf("make the image of the gateway: %w", err))
	}
	defer r.Close()
	for d := json.NewDecoder(r); ; {
		var line struct {
			Error string `json:"error"`
		}
		if err := d.Decode(&line); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if line.Error != "" {
			return explain(fmt.Errorf("make the image of the gateway: %s", line.Error))
		}
	}
}

// gatewayBinary returns a static Linux program that can be the gateway.
func gatewayBinary(ctx context.Context, self bool) (program []byte, entrypoint string, err error) {
	if self {
		path, err := os.Executable()
		if err == nil && static(path) {
			program, err = os.ReadFile(path)
			return program, `["/gateway","test-deps","gateway"]`, err
		}
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, "", command.WithHint(fmt.Errorf("there is no static Linux program for the environment's gateway: this paasta is none, and there is no go to build one"),
			"a paasta that was built with: make build")
	}
	dir, err := os.MkdirTemp("", "paasta-gateway-")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "gateway")
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-ldflags=-s -w", "-o", file, gatewayProgram)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("go build %s: %w: %s", gatewayProgram, err, bytes.TrimSpace(out))
	}
	program, err = os.ReadFile(file)
	return program, `["/gateway"]`, err
}

// static tells whether a file is a Linux program that needs no libraries.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Section(".interp") == nil
}

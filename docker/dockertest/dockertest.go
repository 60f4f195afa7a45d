//go:build linux

// Package dockertest starts a Docker Engine for tests: a dockerd of its own,
// with its own data and socket, in a network namespace of its own. Nothing of
// it meets an engine that the machine may run, and nothing of it stays. Only
// tests import it.
package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/gopaasta/paasta/docker/forward"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/process"
)

// Probe is the import path of a small server for test images; its package
// comment says what it answers.
const Probe = "github.com/gopaasta/paasta/docker/dockertest/probe"

// An Engine is a running dockerd. It keeps containers running while it is down
// (live-restore), so tests may Kill and Restart it.
type Engine struct {
	Host string // e.g. unix:///tmp/dockerd123/d.sock, for --docker-host and DOCKER_HOST

	t      testing.TB
	config string // of daemon.json
	dir    string
	netns  string // of its own; "" in a test that is in one already
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start starts a dockerd and waits until it answers. Inside
// paastatest.InNamespace it shares the test's namespace, so the test reaches
// published ports; elsewhere it gets a namespace that nobody else is in. It is
// stopped, with all its containers, when the test ends.
func Start(t testing.TB) *Engine {
	t.Helper()
	return start(t, "", "{}")
}

// StartOn is Start with a disk of its own that is no larger than size, e.g.
// "256m"; it is in memory.
func StartOn(t testing.TB, size string) *Engine {
	t.Helper()
	return start(t, size, "{}")
}

// OnEachStore runs a test with an engine for each way in which engines keep
// images: in a graph driver's store, where an image's id is the digest of its
// config, and in containerd's, where it is that of its manifest. The latter is
// there from Docker 25 on; 23 and 24 had parts of it.
func OnEachStore(t *testing.T, test func(t *testing.T, e *Engine)) {
	t.Helper()
	t.Run("graph driver", func(t *testing.T) { test(t, start(t, "", `{"features": {"containerd-snapshotter": false}}`)) })
	t.Run("containerd", func(t *testing.T) {
		out, err := exec.Command(paastatest.Need(t, "dockerd"), "--version").Output() // Docker version 20.10.24+dfsg1, build 5d6db84
		if err != nil {
			t.Fatal(err)
		}
		_, version, _ := strings.Cut(string(out), "version ")
		major, _, _ := strings.Cut(version, ".")
		if n, err := strconv.Atoi(major); err != nil || n < 25 {
			t.Skipf("Docker %s has no image store of containerd's: 25 has", strings.TrimSpace(version))
		}
		e := start(t, "", `{"features": {"containerd-snapshotter": true}}`)
		c := e.client()
		defer c.Close()
		info, err := c.Info(t.Context())
		if err != nil || !strings.Contains(fmt.Sprint(info.DriverStatus), "io.containerd.snapshotter") {
			t.Fatalf("the images are kept by %s %v, %v", info.Driver, info.DriverStatus, err)
		}
		test(t, e)
	})
}

func start(t testing.TB, size, config string) *Engine {
	t.Helper()
	paastatest.NeedRoot(t)
	paastatest.Need(t, "dockerd")
	paastatest.Need(t, "nsenter")
	// Not t.TempDir: its names may be longer than a socket's can be.
	dir, err := os.MkdirTemp("", "dockerd")
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{Host: "unix://" + dir + "/d.sock", t: t, dir: dir, config: config}
	if os.Getenv("PAASTA_TEST_NETNS") == "" {
		e.netns = filepath.Base(dir)
		run(t, "ip", "netns", "add", e.netns)
		run(t, "ip", "-n", e.netns, "link", "set", "lo", "up")
	}
	t.Cleanup(e.remove)
	if size != "" {
		if err := errors.Join(os.Mkdir(dir+"/root", 0o710), syscall.Mount("tmpfs", dir+"/root", "tmpfs", 0, "size="+size)); err != nil {
			t.Fatalf("mount the engine's disk: %v", err)
		}
	}
	e.Restart()
	return e
}

// Restart starts the engine again after Kill, and waits until it answers.
func (e *Engine) Restart() {
	e.t.Helper()
	args := []string{
		"dockerd", "--data-root", e.dir + "/root", "--exec-root", e.dir + "/exec", "-H", e.Host,
		"-p", e.dir + "/pid", "--live-restore", "--config-file", e.dir + "/daemon.json",
	}
	// A dockerd that was killed leaves pid files. Its containerd died with it, but
	// where nobody reaps orphans it looks alive, and dockerd would wait for it.
	for _, stale := range []string{e.dir + "/pid", e.dir + "/exec/containerd/containerd.pid"} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			e.t.Fatal(err)
		}
	}
	if err := os.WriteFile(e.dir+"/daemon.json", []byte(e.config), 0o600); err != nil {
		e.t.Fatal(err)
	}
	if e.netns != "" {
		args = append([]string{"nsenter", "--net=/run/netns/" + e.netns}, args...)
	}
	log, err := os.OpenFile(e.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	e.cmd, e.exited = exec.Command(args[0], args[1:]...), make(chan struct{})
	e.cmd.Stdout, e.cmd.Stderr = log, log
	// The engine must not outlive a test that is killed. The kernel counts the
	// death of the thread that started it, so that thread must wait.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func(cmd *exec.Cmd, exited chan struct{}) {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // that it ended is what counts
		}
		close(exited)
	}(e.cmd, e.exited)
	if err := <-started; err != nil {
		e.t.Fatalf("start dockerd: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := e.client()
	defer c.Close()
	for {
		if _, err = c.Ping(ctx); err == nil {
			return
		}
		select {
		case <-e.exited:
			e.t.Fatal("dockerd ended")
		case <-ctx.Done():
			e.t.Fatalf("dockerd does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TCP serves the engine at an address of the test's network as well, until the
// test ends, and returns where, for DOCKER_HOST.
func (e *Engine) TCP(address string) string {
	e.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		forward.Serve(ctx, l, func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(e.Host, "unix://"))
		}, "")
	})
	e.t.Cleanup(func() {
		l.Close()
		cancel()
		serving.Wait()
	})
	return "tcp://" + l.Addr().String()
}

// FullDisk leaves no room for another container on the engine's disk, until
// free is called. There may be no containers meanwhile.
func (e *Engine) FullDisk() (free func()) {
	e.t.Helper()
	dir := e.dir + "/root/containers"
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		e.t.Fatalf("mount a small disk: %v", err)
	}
	return func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			e.t.Errorf("unmount the small disk: %v", err)
		}
	}
}

// Kill ends the engine with SIGKILL. Containers go on.
func (e *Engine) Kill() {
	e.t.Helper()
	if err := e.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Fatal(err)
	}
	<-e.exited
}

// Freeze stops the engine with SIGSTOP: it takes connections and does not
// answer, until Thaw or the end of the test. It returns when every thread has
// stopped: on a busy machine they answer for a while after the signal.
func (e *Engine) Freeze() {
	e.t.Helper()
	e.signal(syscall.SIGSTOP)
	e.t.Cleanup(e.Thaw)
	paastatest.Until(e.t, "every thread of dockerd has stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", e.cmd.Process.Pid))
		return err == nil && !slices.ContainsFunc(threads, func(file string) bool {
			text, err := os.ReadFile(file)
			_, state, _ := bytes.Cut(text, []byte(") ")) // after the program's name
			return err == nil && !bytes.HasPrefix(state, []byte("T"))
		})
	})
}

// Thaw ends Freeze.
func (e *Engine) Thaw() { e.signal(syscall.SIGCONT) }

func (e *Engine) signal(s syscall.Signal) {
	e.t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Fatal(err)
	}
}

// Forget makes the engine, which does not run now, forget that it has started a
// container: as if it had been killed before it could write that down.
func (e *Engine) Forget(id string) { e.SetState(id, map[string]any{}) }

// SetState makes the engine, which does not run now, remember a container in
// another state, given as in its config.v2.json.
func (e *Engine) SetState(id string, state map[string]any) {
	e.t.Helper()
	file := filepath.Join(e.dir, "root/containers", id, "config.v2.json")
	text, err := os.ReadFile(file)
	if err != nil {
		e.t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		e.t.Fatalf("%s: %v", file, err)
	}
	config["State"] = state
	if text, err = json.Marshal(config); err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// Log returns what the engine logged.
func (e *Engine) Log() string {
	text, err := os.ReadFile(e.dir + "/log")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Build compiles a main package (an import path, or a directory as "./x") to a
// static binary and makes an image from it whose entrypoint it is. extra are
// further lines of the Dockerfile, e.g. "EXPOSE 8888".
func (e *Engine) Build(image, pkg string, extra ...string) {
	e.t.Helper()
	e.BuildFiles(image, map[string][]byte{"main": Compile(e.t, pkg)},
		append([]string{"FROM scratch", "COPY main /main", `ENTRYPOINT ["/main"]`}, extra...)...)
}

// BuildFiles makes an image from the lines of a Dockerfile and the files beside
// it, which are executable.
func (e *Engine) BuildFiles(image string, files map[string][]byte, dockerfile ...string) {
	e.t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(name string, data []byte) {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}
	for name, data := range files {
		add(name, data)
	}
	add("Dockerfile", []byte(strings.Join(dockerfile, "\n")+"\n"))
	if err := w.Close(); err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := e.client()
	defer c.Close()
	resp, err := c.ImageBuild(ctx, &buf, build.ImageBuildOptions{Tags: []string{image}, Remove: true, ForceRemove: true})
	if err != nil {
		e.t.Fatalf("build %s: %v", image, err)
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var line struct{ Error string }
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			e.t.Fatalf("build %s: %v", image, err)
		case line.Error != "":
			e.t.Fatalf("build %s: %s", image, line.Error)
		}
	}
}

// Compile returns the static binary of a main package.
func Compile(t testing.TB, pkg string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", pkg, err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Containers returns the ids of all containers, running or not, that carry each
// of the labels ("key" or "key=value").
func (e *Engine) Containers(labels ...string) []string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := e.client()
	defer c.Close()
	list, err := c.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		e.t.Fatal(err)
	}
	var ids []string
	for _, s := range list {
		if !slices.ContainsFunc(labels, func(l string) bool {
			key, value, exact := strings.Cut(l, "=")
			has, ok := s.Labels[key]
			return !ok || exact && has != value
		}) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (e *Engine) client() *client.Client {
	c, err := client.NewClientWithOpts(client.WithHost(e.Host), client.WithAPIVersionNegotiation())
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// remove takes everything down: containers, engine, shims, mounts, files,
// namespace. Each step goes on whatever became of the one before.
func (e *Engine) remove() {
	if e.t.Failed() {
		log := process.Tail{Max: 4000}
		_, _ = io.WriteString(&log, e.Log()) // it never fails
		e.t.Logf("dockerd's log, last part:\n%s", &log)
	}
	e.removeContainers()
	if e.cmd != nil && e.cmd.Process != nil {
		_ = e.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-e.exited:
		case <-time.After(15 * time.Second):
			_ = e.cmd.Process.Kill()
			<-e.exited
		}
	}
	// With the engine killed there are shims left. Only ours name our directory.
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range procs {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(e.dir+"/")) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	points := strings.Split(string(mounts), "\n")
	slices.Reverse(points) // inner ones first
	for _, line := range points {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], e.dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Errorf("remove the engine's files: %v", err)
	}
	if e.netns != "" {
		run(e.t, "ip", "netns", "delete", e.netns)
	}
}

func (e *Engine) removeContainers() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := e.client()
	defer c.Close()
	list, err := c.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return // the engine is dead; remove goes on to the shims
	}
	for _, s := range list {
		_ = c.ContainerRemove(ctx, s.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", fmt.Sprint(append([]string{name}, args...)), err, out)
	}
}

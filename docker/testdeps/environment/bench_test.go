package environment_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/nat"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// run is what "docker run --network" does, until the probe says that it listens;
// it returns how long that took.
func (w *world) run(b *testing.B, docker *client.Client, delay string) time.Duration {
	b.Helper()
	began := time.Now()
	port := nat.Port("8888/tcp")
	c, err := docker.ContainerCreate(b.Context(), &container.Config{Image: registry + "/" + probe, Env: []string{"DELAY=" + delay}, ExposedPorts: nat.PortSet{port: {}}},
		&container.HostConfig{NetworkMode: "plain", PortBindings: nat.PortMap{port: {{HostIP: "127.0.0.1"}}}}, nil, nil, "")
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := docker.ContainerRemove(context.Background(), c.ID, container.RemoveOptions{Force: true}); err != nil {
			b.Error(err)
		}
	}()
	if err := docker.ContainerStart(b.Context(), c.ID, container.StartOptions{}); err != nil {
		b.Fatal(err)
	}
	log, err := docker.ContainerLogs(b.Context(), c.ID, container.LogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	for s := bufio.NewScanner(log); s.Scan(); {
		if strings.Contains(s.Text(), "listening on") {
			return time.Since(began)
		}
	}
	b.Fatal("it never listened")
	return 0
}

func benchmarkWorld(b *testing.B) (*world, *client.Client) {
	b.Helper()
	w := &world{t: b, engine: dockertest.Start(b), soa: b.TempDir(), dir: b.TempDir()}
	w.engine.Build(registry+"/"+probe, dockertest.Probe)
	b.Setenv("DOCKER_HOST", w.engine.Host)
	var err error
	if w.e, err = environment.Dial(b.Context(), ""); err != nil {
		b.Fatal(err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := docker.NetworkCreate(b.Context(), "plain", network.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { docker.Close(); w.e.Close() })
	return w, docker
}

// compare measures an environment of web against plain runs, which it cannot be
// faster than. One plain way or more; the last is what the overhead is over.
func compare(b *testing.B, w *world, plain map[string]func() time.Duration, over string) {
	b.Helper()
	w.upAndDown(b) // makes the gateway's image
	sums := map[string]time.Duration{}
	for b.Loop() {
		for name, run := range plain {
			sums[name] += run()
		}
		sums["up"] += w.upAndDown(b)
	}
	sums["overhead"] = sums["up"] - sums[over]
	for name, sum := range sums {
		b.ReportMetric(float64(sum.Milliseconds())/float64(b.N), name+"-ms")
	}
}

// upAndDown returns how long up takes.
func (w *world) upAndDown(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	x, err := w.e.Up(b.Context(), w.options("web"))
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if err := x.Down(b.Context()); err != nil {
		b.Fatal(err)
	}
	return took
}

// inNamespace runs the benchmark in a network namespace, as on a machine where
// the engine runs beside the command, and reports what it measures there.
func inNamespace(b *testing.B, rounds int) bool {
	b.Helper()
	if os.Getenv("PAASTA_TEST_NETNS") != "" {
		return true
	}
	if b.N > 1 {
		return false // has been done, for N = 1
	}
	paastatest.NeedRoot(b)
	name := fmt.Sprintf("bench%d", os.Getpid())
	for _, args := range [][]string{{"netns", "add", name}, {"-n", name, "link", "set", "lo", "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			b.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	defer exec.Command("ip", "netns", "delete", name).Run()
	cmd := exec.Command("nsenter", "--net=/run/netns/"+name, os.Args[0], "-test.run", "^$", "-test.bench", "^"+b.Name()+"$", "-test.benchtime", fmt.Sprintf("%dx", rounds))
	cmd.Env = append(os.Environ(), "PAASTA_TEST_NETNS="+b.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for _, m := range regexp.MustCompile(`([0-9.]+) (\S+-ms)`).FindAllStringSubmatch(string(out), -1) {
		if value, err := strconv.ParseFloat(m[1], 64); err == nil {
			b.ReportMetric(value, m[2])
		}
	}
	return false
}

// BenchmarkChain: three services in a row, against the sum of three plain runs.
func BenchmarkChain(b *testing.B) {
	if !inNamespace(b, 5) {
		return
	}
	w, docker := benchmarkWorld(b)
	w.service("web", 20010, "users: {service: users}\n")
	w.service("users", 20011, "orders: {service: orders}\n")
	w.service("orders", 20012, "quotes: {service: quotes}\n")
	w.service("quotes", 20013, "")
	compare(b, w, map[string]func() time.Duration{"plain": func() (sum time.Duration) {
		for range 3 {
			sum += w.run(b, docker, "")
		}
		return sum
	}}, "plain")
}

// BenchmarkFive: five independent services, against five plain runs at once. A
// plain run of the slowest alone is what they would take on a machine where
// starting a container costs nothing: five cost the engine some seconds of CPU.
func BenchmarkFive(b *testing.B) {
	if !inNamespace(b, 5) {
		return
	}
	w, docker := benchmarkWorld(b)
	var deps strings.Builder
	delay := func(n int) string { return fmt.Sprintf("%dms", 400*(n+1)) }
	for n := range 5 {
		name := fmt.Sprintf("s%d", n)
		w.service(name, 20020+n, "", fmt.Sprintf("  env: {DELAY: %s}\n", delay(n)))
		fmt.Fprintf(&deps, "%s: {service: %s}\n", name, name)
	}
	w.service("web", 20010, deps.String())
	compare(b, w, map[string]func() time.Duration{
		"slowest-alone": func() time.Duration { return w.run(b, docker, delay(4)) },
		"five-plain": func() time.Duration {
			var took [5]time.Duration
			var running sync.WaitGroup
			for n := range took {
				running.Go(func() { took[n] = w.run(b, docker, delay(n)) })
			}
			running.Wait()
			return slices.Max(took[:])
		},
	}, "five-plain")
}

// BenchmarkTen: ten environments of three containers each at once, which do not
// see each other, on one engine.
func BenchmarkTen(b *testing.B) {
	if !inNamespace(b, 1) {
		return
	}
	w, _ := benchmarkWorld(b)
	w.buildTools()
	w.atOnce(b, 1) // makes the gateway's image
	var sum time.Duration
	for b.Loop() {
		sum += w.atOnce(b, 10)
	}
	b.ReportMetric(float64(sum.Milliseconds())/float64(b.N), "up-ms")
}

//go:build linux

// Package demo is the main job of the platform from end to end: a playground, a
// repository of the example service, its first deploy, and a second one while
// requests run. It does what a person would do, by the same commands, and says
// what it does.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/docker/examples"
	"github.com/gopaasta/paasta/paasta/load"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// Service is what the demo deploys.
const Service = "hello"

// A Demo is one run. All fields are required.
type Demo struct {
	Dir    string // of the playground
	Binary string // paasta
	Remove string // the command that removes it again
	Out    io.Writer

	p     *playground.Playground
	group string
	port  int
}

// Run does all of it and leaves it running. It may be run again and again. The
// error says that a step did not work, or that a request was lost.
func (d *Demo) Run(ctx context.Context) error {
	began := time.Now()
	d.say("1. The playground: ZooKeeper, a registry, a Docker engine, HAProxy and PaaSTA's daemons")
	p, err := playground.Up(ctx, playground.UpOptions{Dir: d.Dir, Out: d.Out})
	if err != nil {
		return err
	}
	d.p = p

	d.say("2. A git repository of the service %s, with a bare remote, and its soa-configs", Service)
	if err := d.makeRepository(ctx); err != nil {
		return err
	}
	if err := d.readConfig(); err != nil {
		return err
	}

	d.say("3. The first deploy: test the image, push it, and mark the commit for the deploy group %s", d.group)
	first, err := d.commit(ctx, "The first version of this demo")
	if err != nil {
		return err
	}
	if err := d.cook(ctx, first); err != nil {
		return err
	}
	if err := d.deploy(ctx, first); err != nil {
		return err
	}

	d.say("4. It answers, on the host and inside")
	n, err := p.Enter()
	if err != nil {
		return err
	}
	defer n.Close()
	targets := d.targets(n)
	for _, t := range targets {
		if err := d.show(ctx, t, first); err != nil {
			return err
		}
	}

	d.say("5. The second deploy, while requests run: one attempt each, from the host and from inside")
	result, tagged, second, err := d.deployUnderLoad(ctx, targets)
	if err != nil {
		return err
	}
	d.report(result, tagged, second)

	d.say("6. How it is now")
	if err := d.paasta(ctx, "status", "-s", Service, "-v"); err != nil {
		return err
	}
	if result.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed", result.Failed, result.Sent)
	}
	fmt.Fprintf(d.Out, "\nAll of this took %s, and it goes on running. What to try next:\n", time.Since(began).Round(time.Second))
	d.suggest()
	return nil
}

func (d *Demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, "\n== "+format+"\n", args...)
}

func (d *Demo) repository() string { return filepath.Join(d.p.Dir, "repos", Service) }
func (d *Demo) remote() string     { return filepath.Join(d.p.GitDir(), Service+".git") }

// makeRepository makes the service's repository, its remote and the reference
// to that in soa-configs. What is there stays.
func (d *Demo) makeRepository(ctx context.Context) error {
	if err := examples.Write(Service, d.repository()); err != nil {
		return err
	}
	for dir, args := range map[string][]string{
		d.remote():     {"init", "--quiet", "--bare", "--initial-branch=main", d.remote()},
		d.repository(): {"init", "--quiet", "--initial-branch=main", d.repository()},
	} {
		if _, err := os.Stat(filepath.Join(dir, "config")); err == nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			continue
		}
		if err := d.git(ctx, args...); err != nil {
			return err
		}
	}
	return setGitURL(filepath.Join(d.p.SoaDir(), Service, "service.yaml"), d.remote())
}

// setGitURL makes a service.yaml name a remote.
func setGitURL(file, url string) error {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	line := fmt.Sprintf("git_url: %q", url)
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	found := false
	for i, l := range lines {
		if strings.HasPrefix(l, "git_url:") {
			lines[i], found = line, true
		}
	}
	if !found {
		lines = append(lines, line)
	}
	changed := strings.TrimLeft(strings.Join(lines, "\n"), "\n") + "\n"
	if changed == string(text) {
		return nil
	}
	return os.WriteFile(file, []byte(changed), 0o644)
}

// readConfig finds the deploy group and the proxy port.
func (d *Demo) readConfig() error {
	s, err := soaconfig.LoadService(d.p.SoaDir(), Service, soaconfig.Options{Clusters: []string{playground.Cluster}})
	if err != nil {
		return err
	}
	if err := s.Problems.Err(); err != nil {
		return err
	}
	instance, found, err := s.Instances[playground.Cluster].Find("main")
	if err != nil || !found {
		return fmt.Errorf("%s.main in %s: found %t: %w", Service, playground.Cluster, found, err)
	}
	namespace, found, err := s.Namespaces.Find("main")
	if err != nil || !found || namespace.ProxyPort == nil {
		return fmt.Errorf("%s.main in smartstack.yaml: found %t: %w", Service, found, err)
	}
	d.group, d.port = instance.DeployGroup, *namespace.ProxyPort
	return nil
}

// commit makes a commit, pushes it, and returns its sha. The version that the
// service tells is its commit's, so none needs to change a file.
func (d *Demo) commit(ctx context.Context, message string) (string, error) {
	for _, args := range [][]string{
		{"add", "--all"},
		{"-c", "user.name=Demo", "-c", "user.email=demo@localhost", "commit", "--quiet", "--allow-empty", "-m", message},
		{"push", "--quiet", d.remote(), "HEAD:main"},
	} {
		if err := d.git(ctx, append([]string{"-C", d.repository()}, args...)...); err != nil {
			return "", err
		}
	}
	out, err := exec.CommandContext(ctx, "git", "-C", d.repository(), "rev-parse", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("git rev-parse: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *Demo) git(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// cook builds, tests and pushes the image of a commit.
func (d *Demo) cook(ctx context.Context, sha string) error {
	if err := d.paasta(ctx, "itest", "-s", Service, "-c", sha); err != nil {
		return err
	}
	return d.paasta(ctx, "push-to-registry", "-s", Service, "-c", sha)
}

func (d *Demo) deploy(ctx context.Context, sha string) error {
	return d.paasta(ctx, "mark-for-deployment", "-s", Service, "-l", d.group, "-c", sha, "--wait-for-deployment", "-t", "180")
}

// paasta runs a command as a person would, in the service's repository, and
// shows it.
func (d *Demo) paasta(ctx context.Context, args ...string) error {
	fmt.Fprintf(d.Out, "$ paasta %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.Binary, args...)
	cmd.Dir, cmd.Env = d.repository(), d.p.EnvironmentOver()
	cmd.Stdout, cmd.Stderr = d.Out, d.Out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("paasta %s: %w", args[0], err)
	}
	return nil
}

// targets are the two ways to the service.
func (d *Demo) targets(n *playground.Namespace) []load.Target {
	return []load.Target{
		{Name: "on the host", URL: fmt.Sprintf("http://%s:%d/", d.p.Address, d.port)},
		{Name: "inside", URL: fmt.Sprintf("http://%s:%d/", playground.Link, d.port), Dial: n.DialContext},
	}
}

// show calls the service once.
func (d *Demo) show(ctx context.Context, t load.Target, sha string) error {
	answer, err := load.Once(ctx, t, 10*time.Second)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "%-11s  GET %s  %s\n", t.Name, t.URL, answer)
	if !strings.Contains(answer, sha) {
		return fmt.Errorf("GET %s: the answer is not of %s", t.URL, sha)
	}
	return nil
}

// deployUnderLoad deploys another commit while requests run. tagged is when
// mark-for-deployment was started.
func (d *Demo) deployUnderLoad(ctx context.Context, targets []load.Target) (result *load.Result, tagged time.Time, sha string, err error) {
	if sha, err = d.commit(ctx, "The second version of this demo"); err != nil {
		return nil, tagged, "", err
	}
	if err := d.cook(ctx, sha); err != nil {
		return nil, tagged, "", err
	}
	l := load.Start(ctx, load.Options{Targets: targets, Pause: 10 * time.Millisecond})
	tagged = time.Now()
	err = d.deploy(ctx, sha)
	// The deploy is done; what is lost while its last traces go counts too.
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	result = l.Stop()
	if err != nil {
		err = errors.Join(err, fmt.Errorf("meanwhile %d requests were sent and %d failed", result.Sent, result.Failed))
	}
	return result, tagged, sha, err
}

func (d *Demo) report(r *load.Result, tagged time.Time, sha string) {
	fmt.Fprintf(d.Out, "\nrequests sent    %d\nrequests failed  %d\n", r.Sent, r.Failed)
	if first, ok := r.FirstWith(sha); ok {
		fmt.Fprintf(d.Out, "from the tag to the first answer of %s  %.1f s\n", sha[:8], first.Sub(tagged).Seconds())
	}
	fmt.Fprintf(d.Out, "answered in      %.1f ms (median), %.1f ms (99 %%), %.1f ms (all)\n",
		milliseconds(r.Quantile(0.5)), milliseconds(r.Quantile(0.99)), milliseconds(r.Quantile(1)))
	for _, e := range r.Errors {
		fmt.Fprintf(d.Out, "  failed: %s\n", e)
	}
}

func milliseconds(t time.Duration) float64 { return float64(t.Microseconds()) / 1000 }

func (d *Demo) suggest() {
	if os.Getenv("SUDO_UID") != "" {
		fmt.Fprintln(d.Out, "  sudo -s                               # what it made is root's")
	}
	fmt.Fprintf(d.Out, `  . %s/env                         # then, in this shell:
  paasta status -s %s -v
  paasta logs -s %s -n 20
  paasta rollback -s %s -l %s     # shows what there is to roll back to
  paasta stop -s %s -i main -c %s
  curl http://%s:%d/
  paasta playground status
  %-37s # removes all of it
`, d.p.Dir, Service, Service, Service, d.group, Service, playground.Cluster, d.p.Address, d.port, d.Remove)
}

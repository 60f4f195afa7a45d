//go:build linux

package playground_test

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/cli/internal/demo"
	"github.com/gopaasta/paasta/cli/internal/playground"
	"github.com/gopaasta/paasta/docker/examples"
)

// deploys is how many deploys one round of BenchmarkDeploy makes, so that a
// 99th percentile means something.
const deploys = 100

// BenchmarkDeploy deploys the example service in a playground, a hundred times
// by the CLI and a hundred times by git push to a repository with our hook, and
// measures what a person waits for:
//
//	app       from the start of the command to the new app in Marathon
//	running   from there to the running task, which is Docker's time
//	healthy   from there to the health check that passes, which is the check's interval
//	up        from Marathon's event that the task is healthy to the server that
//	          HAProxy says is UP, by way of deployd, ZooKeeper, the agent and its probe
//
// It also measures "paasta status" from start to end, with the process it is.
func BenchmarkDeploy(b *testing.B) {
	need(b)
	d := newDeployer(b)
	for _, way := range []struct {
		name   string
		deploy func(sha string, n int)
	}{
		{"by=CLI", func(sha string, _ int) {
			d.run(d.repo, "mark-for-deployment", "-s", demo.Service, "-l", "playground.main", "-c", sha)
		}},
		{"by=push", func(sha string, n int) {
			// Hand-made tags need a time of their own as much as ours do.
			at := d.latest.Add(time.Duration(n+1) * time.Second).UTC().Format("20060102T150405")
			d.git("push", "--quiet", d.remote, sha+":refs/tags/paasta-playground.main-"+at+"-deploy")
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			times := map[string][]time.Duration{}
			for b.Loop() {
				// Tags of the CLI have gone ahead of the clock where they came faster than
				// one a second.
				d.latest = time.Now().Add(deploys * time.Second)
				for n := range deploys {
					d.one(way.deploy, n, times)
				}
			}
			report(b, times)
		})
	}
	b.Run("status", func(b *testing.B) {
		times := map[string][]time.Duration{}
		for b.Loop() {
			for range deploys {
				began := time.Now()
				d.run("", "status", "-s", demo.Service)
				times["status"] = append(times["status"], time.Since(began))
			}
		}
		report(b, times)
	})
}

func report(b *testing.B, times map[string][]time.Duration) {
	b.ReportMetric(0, "ns/op") // of a hundred deploys: says nothing
	for name, all := range times {
		slices.Sort(all)
		for share, unit := range map[float64]string{.5: "p50-ms", .99: "p99-ms"} {
			b.ReportMetric(float64(all[min(int(share*float64(len(all))), len(all)-1)].Microseconds())/1000, name+"-"+unit)
		}
	}
}

// A deployer has a playground with the example service in it.
type deployer struct {
	*session
	repo, remote string
	shas         []string // two commits with images, deployed by turns
	next         int
	latest       time.Time
	inside       *http.Client // in the playground's network
	marathon     string
	events       chan event
}

// An event is what Marathon said of a task, and when we heard of it.
type event struct {
	Type   string `json:"eventType"`
	App    string `json:"appId"`
	Status string `json:"taskStatus"`
	Alive  bool   `json:"alive"`
	Host   string `json:"host"`
	Ports  []int  `json:"ports"`
	text   string
	at     time.Time
}

func newDeployer(b *testing.B) *deployer {
	d := &deployer{session: start(b), events: make(chan event, 1000)}
	p, err := playground.Open(d.dir)
	if err != nil {
		b.Fatal(err)
	}
	d.repo = filepath.Join(d.dir, "repos", demo.Service)
	d.remote = filepath.Join(p.GitDir(), demo.Service+".git")
	d.marathon = "http://" + net.JoinHostPort(p.Address, "8080")
	if err := examples.Write(demo.Service, d.repo); err != nil {
		b.Fatal(err)
	}
	d.git("init", "--quiet", "--bare", "--initial-branch=main", d.remote)
	d.git("init", "--quiet", "--initial-branch=main")
	d.change(filepath.Join(p.SoaDir(), demo.Service, "service.yaml"), func(text string) string { return text + "git_url: " + d.remote + "\n" })
	d.change(filepath.Join(p.SoaDir(), demo.Service, "marathon-playground.yaml"), func(text string) string {
		return strings.Replace(text, "instances: 3", "instances: 1", 1)
	})
	for range 2 {
		d.git("add", "--all")
		d.git("commit", "--quiet", "--allow-empty", "-m", "another one")
		d.git("push", "--quiet", d.remote, "HEAD:main")
		sha := d.git("rev-parse", "HEAD")
		d.run(d.repo, "itest", "-s", demo.Service, "-c", sha)
		d.run(d.repo, "push-to-registry", "-s", demo.Service, "-c", sha)
		d.shas = append(d.shas, sha)
	}
	hook := d.run("", "git-hook", "-s", demo.Service, "--api", "http://"+net.JoinHostPort(p.Address, "5054"))
	if err := os.WriteFile(filepath.Join(d.remote, "hooks", "post-receive"), []byte(hook), 0o755); err != nil {
		b.Fatal(err)
	}
	n, err := p.Enter()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	d.inside = &http.Client{Transport: &http.Transport{DialContext: n.DialContext}, Timeout: 5 * time.Second}
	d.listen()
	return d
}

// git runs git in the service's repository.
func (d *deployer) git(args ...string) string {
	d.t.Helper()
	if _, err := os.Stat(d.repo); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("git", append([]string{"-C", d.repo, "-c", "user.name=B", "-c", "user.email=b@localhost"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("git %s: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *deployer) change(file string, change func(string) string) {
	d.t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(change(string(text))), 0o644)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// listen puts Marathon's events into d.events until the benchmark ends.
func (d *deployer) listen() {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.marathon+"/v2/events", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { cancel(); resp.Body.Close(); <-ended })
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			e := event{at: time.Now(), text: data}
			if !ok || json.Unmarshal([]byte(data), &e) != nil {
				continue
			}
			select {
			case d.events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// heard waits for an event.
func (d *deployer) heard(what string, want func(event) bool) event {
	d.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case e := <-d.events:
			if want(e) {
				return e
			}
		case <-limit:
			d.t.Fatalf("within a minute: not %s", what)
		}
	}
}

// one makes one deploy and waits until it is complete.
func (d *deployer) one(deploy func(string, int), n int, times map[string][]time.Duration) {
	d.t.Helper()
	sha := d.shas[d.next%len(d.shas)]
	d.next++
	id := "/" + demo.Service + ".main.git" + sha[:8] + "."
	took := func(name string, since, until time.Time) { times[name] = append(times[name], until.Sub(since)) }
	for len(d.events) > 0 {
		<-d.events // of the deploy before
	}
	began := time.Now()
	deploy(sha, n)
	accepted := d.heard("the new app", func(e event) bool {
		return e.Type == "deployment_info" && strings.Contains(e.text, id)
	})
	running := d.heard("a running task", func(e event) bool {
		return e.Type == "status_update_event" && strings.HasPrefix(e.App, id) && e.Status == "TASK_RUNNING"
	})
	healthy := d.heard("a healthy task", func(e event) bool {
		return e.Type == "health_status_changed_event" && strings.HasPrefix(e.App, id) && e.Alive
	})
	server := fmt.Sprintf("%s:%d", running.Host, running.Ports[0])
	for d.state(server) != "UP" {
		if time.Since(healthy.at) > time.Minute {
			d.t.Fatalf("%s is not UP within a minute", server)
		}
		time.Sleep(2 * time.Millisecond)
	}
	up := time.Now()
	took("app", began, accepted.at)
	took("running", accepted.at, running.at)
	took("healthy", running.at, healthy.at)
	took("up", healthy.at, up)
	d.run(d.repo, "wait-for-deployment", "-s", demo.Service, "-l", "playground.main", "-c", sha, "-t", "100")
}

// state is what HAProxy's own page says of a server, "" for one that it does not
// have. "UP 1/2" is UP: not checked a second time yet.
func (d *deployer) state(server string) string {
	d.t.Helper()
	resp, err := d.inside.Get("http://127.0.0.1:3212/;csv")
	if err != nil {
		return "" // it reloads
	}
	defer resp.Body.Close()
	rows := csv.NewReader(resp.Body)
	rows.FieldsPerRecord = -1
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return ""
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if len(row) > 17 && row[0] == demo.Service+".main" && strings.HasSuffix(row[1], "_"+server) {
			word, _, _ := strings.Cut(row[17], " ")
			return word
		}
	}
}

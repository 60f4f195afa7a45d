package deployd_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// BenchmarkTagToApp measures from a tag that is there, and its kick, to the new
// app in Marathon; reading the tags takes no time here.
func BenchmarkTagToApp(b *testing.B) {
	w := newWorld(b)
	w.instance("instances: 1\n")
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 1)
	var took []time.Duration
	for b.Loop() {
		n := len(w.marathon.Posted())
		w.tag(cluster+".main", paasta.TagDeploy, fmt.Sprintf("%040x", n))
		began := time.Now()
		w.kick("web")
		for len(w.marathon.Posted()) == n {
			if time.Since(began) > 10*time.Second {
				b.Fatal("no new app\n" + w.dump())
			}
			time.Sleep(200 * time.Microsecond)
		}
		took = append(took, time.Since(began))
		b.StopTimer()
		w.untilRunning(fmt.Sprintf("%040x", n), 1)
		w.untilState("steady")
		b.StartTimer()
	}
	report(b, took)
}

// BenchmarkHealthyToRegistered measures from Marathon's event that a task is
// healthy to its entry in ZooKeeper.
func BenchmarkHealthyToRegistered(b *testing.B) {
	w := newWorld(b)
	w.instance("instances: 1\n")
	w.marathon.Auto(true)
	w.start()
	w.deploy(sha1)
	w.untilRunning(sha1, 1)
	w.untilState("steady")
	w.marathon.Auto(false)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		old := w.marathon.Tasks("")[0].ID
		w.marathon.Fail(old)
		var task string
		w.until("another task", func() string {
			tasks := w.marathon.Tasks("")
			if len(tasks) != 1 || tasks[0].ID == old || len(w.entries()) != 0 {
				return "not yet"
			}
			task = tasks[0].ID
			return ""
		})
		w.marathon.Run(task)
		w.until("a round with it", func() string {
			for _, t := range w.status("web", "main").Tasks {
				if t.ID == task && t.State == "running" {
					return ""
				}
			}
			return "not yet"
		})
		b.StartTimer()
		began := time.Now()
		w.marathon.Healthy(task, true)
		for len(w.entries()) == 0 {
			if time.Since(began) > 10*time.Second {
				b.Fatal("not registered\n" + w.dump())
			}
			time.Sleep(200 * time.Microsecond)
		}
		took = append(took, time.Since(began))
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	for name, share := range map[string]float64{"p50-ms": .5, "p99-ms": .99} {
		b.ReportMetric(float64(took[int(share*float64(len(took)-1))].Microseconds())/1000, name)
	}
}

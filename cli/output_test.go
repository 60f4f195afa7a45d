package cli

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	t.Parallel()
	fill := func(env *Env) {
		tb := newTable(env, "NAME", "STATE", "WHY")
		tb.row("web.main", env.paint(good, "Running"), "-")
		tb.row("web.a-long-name", env.paint(bad, "NotRunning"), "it waits")
		tb.print()
	}
	env, out, _ := testEnv()
	fill(env)
	if want := "web.main\tRunning\t-\nweb.a-long-name\tNotRunning\tit waits\n"; out.String() != want {
		t.Errorf("pipe: %q, want %q", out, want)
	}
	env, out, _ = testEnv()
	env.TTY = true // a terminal with NO_COLOR
	fill(env)
	want := "NAME             STATE       WHY\n" +
		"web.main         Running     -\n" +
		"web.a-long-name  NotRunning  it waits\n"
	if out.String() != want {
		t.Errorf("terminal:\n%s\nwant\n%s", out, want)
	}
	env, out, _ = testEnv()
	fill(onTerminal(env))
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[1], "\x1b[32mRunning\x1b[m     -") {
		t.Errorf("colours count as width: %q", lines[1])
	}
}

// A table that is too wide goes on in the next line.
func TestTableFits(t *testing.T) {
	t.Parallel()
	env, out, _ := testEnv()
	env.TTY, env.Width = true, 80
	tb := newTable(env, "TIME (UTC)", "DEPLOY GROUP", "COMMIT", "OUTCOME")
	tb.row("2026-01-02 12:00:00", "prod.everything", "591ae8a7", "current, never ran: main: 0 of 3 health checks pass")
	tb.print()
	want := "TIME (UTC)           DEPLOY GROUP     COMMIT    OUTCOME\n" +
		"2026-01-02 12:00:00  prod.everything  591ae8a7  current, never ran: main: 0 of 3\n" +
		"                                                health checks pass\n"
	if out.String() != want {
		t.Errorf("terminal:\n%s\nwant\n%s", out, want)
	}
}

func TestWhen(t *testing.T) {
	t.Parallel()
	env, _, _ := testEnv()
	at := testNow.Add(-90 * time.Minute)
	if got := env.when(at); got != "2026-01-02T10:30:00Z" {
		t.Errorf("pipe: %s", got)
	}
	if got := env.when(time.Time{}); got != "-" {
		t.Errorf("zero: %s", got)
	}
	env.TTY = true
	for d, want := range map[time.Duration]string{
		0: "just now", 30 * time.Second: "30 seconds ago", 90 * time.Second: "1 minute ago", 5 * time.Hour: "5 hours ago",
		49 * time.Hour: "2 days ago", 400 * 24 * time.Hour: "1 year ago", -2 * time.Minute: "in 2 minutes",
	} {
		if got := env.when(testNow.Add(-d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	run := func(env *Env) {
		p := newProgress(env)
		p.set("a", "a: 1 of 3")
		p.set("b", "b: 0 of 1")
		p.set("a", "a: 1 of 3") // no change, no line
		p.set("a", "a: 3 of 3")
		p.finish("a", "a is complete")
		p.say("done")
		p.done()
	}
	env, out, stderr := testEnv()
	run(env)
	if want := "a: 1 of 3\nb: 0 of 1\na: 3 of 3\na is complete\ndone\n"; stderr.String() != want || out.Len() > 0 {
		t.Errorf("pipe: %q and on stdout %q, want %q", stderr, out, want)
	}
	env, _, stderr = testEnv()
	env.ErrTTY, env.Width = true, 8
	run(env)
	want := "a: 1 of\n" + "\x1b[1A\x1b[Ja: 1 of\nb: 0 of\n" + "\x1b[2A\x1b[Ja: 3 of\nb: 0 of\n" + "\x1b[2A\x1b[Ja is complete\nb: 0 of\n" + "\x1b[1A\x1b[Jdone\nb: 0 of\n"
	if got := strings.ReplaceAll(stderr.String(), " \n", "\n"); got != want {
		t.Errorf("terminal:\n%q, want\n%q", got, want)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"web", "worker", "billing", "billing-api", "main", "canary"}
	for name, want := range map[string][]string{
		"wbe": {"web"}, "Web": {"web"}, "wroker": {"worker"}, "bil": {"billing", "billing-api"}, "biling": {"billing"}, "xyz": nil, "": nil,
	} {
		if got := nearest(name, known); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"":                     {},
		"5m":                   testNow.Add(-5 * time.Minute),
		"3d":                   testNow.AddDate(0, 0, -3),
		"2026-01-01T10:00:00Z": time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC),
		"2026-01-01 10:00:00":  time.Date(2026, 1, 1, 10, 0, 0, 0, time.Local),
	} {
		got, err := moment("from", text, testNow)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-5m", "12"} {
		if _, err := moment("from", text, testNow); err == nil {
			t.Errorf("%q is a time", text)
		}
	}
}

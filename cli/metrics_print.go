package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/traffic"
)

// rarely is how many rows of backends, callers and task metrics are shown to a
// person; a pipe gets all.
const rarely = 20

// printMetrics answers one question a section.
func printMetrics(env *Env, m api.ServiceMetrics) {
	env.printf("%s in %s: %s in %s (%s/s), counted by %s\n", env.paint(strong, m.Service), m.Cluster, plural(int(m.Requests), "request"),
		roughly(time.Duration(m.Seconds)*time.Second), number(m.QPS), plural(m.Agents, "agent"))
	for _, n := range m.Notes {
		env.printf("%s\n", env.paint(warn, "note: "+oneLine(n)))
	}
	section := func(title, answer string, t *table) {
		if len(t.rows) == 0 {
			return
		}
		env.printf("\n%s%s\n", env.paint(strong, title), answer)
		t.indent = "  "
		t.print()
	}

	t := newTable(env, "REGISTRATION", "ENDPOINT", "REQ/S", "ERRORS", "P50", "P95", "P99")
	for _, e := range m.Endpoints {
		t.row(e.Registration, e.Endpoint, number(e.QPS), errorCell(env, e.Counts), took(e.P50), took(e.P95), took(e.P99))
	}
	section("Endpoints", "", t)

	t = newTable(env, "BACKEND", "VERSION", "REQ/S", "ERRORS", "P50", "P99", "", "")
	for _, b := range m.Backends[:min(len(m.Backends), rarely)] {
		t.row(b.Server, orDash(short(b.Version)), number(b.QPS), errorCell(env, b.Counts), took(b.P50), took(b.P99), verdictWord(env, b.Verdict), env.paint(faint, oneLine(b.Why)))
	}
	left := more(env, len(m.Backends)-rarely)
	section("Backends", ": "+standing(m.Backends)+left, t)

	t = newTable(env, "SERVICE", "OF ALL WAITING", "REQ/S", "PER REQUEST", "ERRORS", "MEAN", "P99")
	for _, d := range m.Downstream {
		t.row(d.Registration, percent(d.Share), number(d.QPS), number(d.PerRequest), errorCell(env, d.Counts), took(d.Mean), took(d.P99))
	}
	answer := ""
	if len(m.Downstream) > 0 {
		answer = fmt.Sprintf(": %s costs most, %s of all waiting", m.Downstream[0].Registration, percent(m.Downstream[0].Share))
	}
	section("Asks others", answer, t)

	t = newTable(env, "ENDPOINT", "CALLER", "REQ/S", "REQUESTS", "LAST")
	for _, c := range m.Callers[:min(len(m.Callers), 2*rarely)] {
		t.row(c.Endpoint, c.Caller, number(c.QPS), strconv.FormatUint(c.Requests, 10), env.when(c.Last))
	}
	section("Callers", more(env, len(m.Callers)-2*rarely), t)

	for _, v := range m.Versions {
		printComparison(env, v, section)
	}

	t = newTable(env, "TASK", "NAME", "REQ/S", "MEAN", "P99")
	for _, task := range m.Tasks {
		taskRows(env, task, func(name, rate, mean, p99 string) {
			if len(t.rows) < 2*rarely {
				t.row(task.Server, name, rate, mean, p99)
			}
		})
	}
	section("What tasks say of themselves", "", t)
}

// more says how many rows a person is not shown.
func more(env *Env, n int) string {
	if n <= 0 {
		return ""
	}
	return env.paint(faint, fmt.Sprintf(" (and %d more: see --endpoint, or print into a pipe)", n))
}

// printComparison sets two versions side by side.
func printComparison(env *Env, v traffic.Comparison, section func(string, string, *table)) {
	title := fmt.Sprintf("%s: version %s against %s", v.Registration, short(v.After.Version), short(v.Before.Version))
	answer := fmt.Sprintf(": latency %s, errors %s", verdictWord(env, v.Latency), verdictWord(env, v.Errors))
	t := newTable(env, "ENDPOINT", "", "REQUESTS", "ERRORS", "P50", "P95", "P99")
	for _, e := range v.Endpoints {
		t.row(e.Endpoint, short(v.Before.Version), strconv.FormatUint(e.Before.Requests, 10), percent(e.Before.ErrorShare()), took(e.Before.P50), took(e.Before.P95), took(e.Before.P99))
		t.row("", short(v.After.Version), strconv.FormatUint(e.After.Requests, 10), percent(e.After.ErrorShare()), took(e.After.P50), took(e.After.P95), took(e.After.P99))
		t.row("", "", "", verdictOf(env, e.Errors), verdictOf(env, e.P50), verdictOf(env, e.P95), verdictOf(env, e.P99))
	}
	if len(t.rows) == 0 {
		t.row("no endpoint was asked of both versions")
	}
	section(title, answer, t)
}

// verdictOf is a verdict, or how many requests it would take.
func verdictOf(env *Env, c traffic.Change) string {
	if c.Verdict == traffic.Unknown {
		return env.paint(faint, fmt.Sprintf("not enough data (~%d)", c.Needs))
	}
	return verdictWord(env, c.Verdict)
}

func verdictWord(env *Env, v traffic.Verdict) string {
	switch v {
	case traffic.Worse:
		return env.paint(bad, "worse")
	case traffic.Better:
		return env.paint(good, "better")
	case traffic.Same:
		return "same"
	}
	return env.paint(faint, "not enough data")
}

// standing says whether all backends are alike, or which is not.
func standing(all []traffic.Backend) string {
	var worse, unknown []string
	backends := 0
	for _, b := range all {
		if b.Server == "none" || b.Server == "other" || strings.HasPrefix(b.Server, "via ") {
			continue
		}
		backends++
		switch b.Verdict {
		case traffic.Worse:
			worse = append(worse, b.Server)
		case traffic.Unknown:
			unknown = append(unknown, b.Server)
		}
	}
	switch {
	case len(worse) > 0:
		return fmt.Sprintf("%d of %d worse than the others: %s", len(worse), backends, strings.Join(worse[:min(len(worse), 5)], ", "))
	case backends == 0:
		return "none was asked"
	case backends == 1:
		return "only one was asked"
	case len(unknown) > 0:
		return fmt.Sprintf("not enough data about %d of %d", len(unknown), backends)
	}
	return "all alike"
}

// taskRows gives row the timers of a task, those with the most calls first,
// and its counters.
func taskRows(env *Env, task paasta.TaskMetrics, row func(name, rate, mean, p99 string)) {
	if task.Error != "" {
		row(env.paint(bad, oneLine(task.Error)), "-", "-", "-")
		return
	}
	timers := slices.SortedFunc(maps.Keys(task.Timers), func(a, b string) int {
		return cmp.Or(cmp.Compare(task.Timers[b].Count, task.Timers[a].Count), strings.Compare(a, b))
	})
	for _, name := range timers {
		x := task.Timers[name]
		row(name, number(x.Rate), took(x.Mean), took(x.P99))
	}
	for _, name := range slices.Sorted(maps.Keys(task.Counters)) {
		row(name+" = "+number(task.Counters[name]), "-", "-", "-")
	}
}

// printMetricsLines prints one line a fact, for a pipe. Times are milliseconds.
func printMetricsLines(env *Env, all []api.ServiceMetrics) {
	t := newTable(env)
	count := func(c traffic.Counts) []string {
		return []string{strconv.FormatUint(c.Requests, 10), plain3(c.QPS), strconv.FormatUint(c.Errors, 10), plain3(c.P50), plain3(c.P95), plain3(c.P99)}
	}
	for _, m := range all {
		for _, e := range m.Endpoints {
			t.row(append([]string{"endpoint", m.Cluster, e.Registration, e.Endpoint}, count(e.Counts)...)...)
		}
		for _, b := range m.Backends {
			t.row(append(append([]string{"backend", m.Cluster, b.Registration, b.Server, orDash(b.Version)}, count(b.Counts)...), string(b.Verdict), orDash(oneLine(b.Why)))...)
		}
		for _, d := range m.Downstream {
			t.row(append(append([]string{"downstream", m.Cluster, d.Registration}, count(d.Counts)...), plain3(d.Share), plain3(d.PerRequest))...)
		}
		for _, c := range m.Callers {
			t.row("caller", m.Cluster, c.Registration, c.Endpoint, c.Caller, plain3(c.QPS), strconv.FormatUint(c.Requests, 10), strconv.FormatUint(c.Errors, 10), env.when(c.Last))
		}
		for _, v := range m.Versions {
			t.row("version", m.Cluster, v.Registration, "all", v.Before.Version, v.After.Version, string(v.Latency), string(v.Errors))
			for _, e := range v.Endpoints {
				t.row("version", m.Cluster, v.Registration, e.Endpoint, v.Before.Version, v.After.Version, string(e.Latency()), string(e.Errors.Verdict),
					plain3(e.P50.Before), plain3(e.P50.After), plain3(e.P99.Before), plain3(e.P99.After))
			}
		}
		for _, task := range m.Tasks {
			taskRows(env, task, func(name, rate, mean, p99 string) {
				t.row("task", m.Cluster, task.Registration, task.Server, name, rate, mean, p99)
			})
		}
	}
	t.print()
	for _, m := range all {
		for _, n := range m.Notes {
			env.notef("paasta: %s in %s: %s", m.Service, m.Cluster, n)
		}
	}
}

func errorCell(env *Env, c traffic.Counts) string {
	if c.Errors == 0 {
		return "0"
	}
	return env.paint(bad, percent(c.ErrorShare()))
}

// percent says a share, with more digits the less it is.
func percent(share float64) string {
	switch {
	case share == 0:
		return "0 %"
	case share < 0.001:
		return fmt.Sprintf("%.2g %%", share*100)
	}
	return strconv.FormatFloat(share*100, 'f', 1, 64) + " %"
}

// took says milliseconds.
func took(ms float64) string {
	switch {
	case ms >= 10_000:
		return fmt.Sprintf("%.0f s", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 1:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

func number(x float64) string {
	if x >= 100 || x == float64(int64(x)) {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

func plain3(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

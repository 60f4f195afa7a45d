package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/printable"
)

type logsFlags struct {
	selection
	components []string
	follow     bool
	lines      int
	offset     int
	verbose    int
	from, to   string
	raw, strip bool
}

// logComponents are the names that -C takes; app_output is stdout and stderr.
var logComponents = []string{"build", "deploy", "monitoring", "marathon", "app_output", "stdout", "stderr", "security", "oom"}

func newLogs(env *Env) *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:   "logs [-s SERVICE] [-i INSTANCES] [-C COMPONENTS] [-f]",
		Short: "Show what a service's tasks write and what its deploys did",
		Long: `Show the output of a service's tasks and its deploy log: the latest 100 lines of
each, or those of a stretch of time, or with --follow also every new one.

Of tasks that have ended (crashed, or of the version before) the latest lines are
shown with how they ended: of those of the last day, or of the stretch of time.`,
		Example: `  paasta logs -s web -f
  paasta logs -s web -C deploy --from 2h --raw`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return logs(cmd.Context(), env, f, cmd.Flags().Changed("lines"))
		},
	}
	serviceFlag(cmd, env, &f.service)
	instancesFlag(cmd, env, &f.instances)
	clustersFlag(cmd, env, &f.clusters)
	soaDirFlag(cmd, &f.soaDir)
	flags := cmd.Flags()
	flags.StringSliceVarP(&f.components, "components", "C", nil, "only these `COMPONENTS`, separated by commas: "+strings.Join(logComponents, ", "))
	complete(cmd, "components", completeNames(func(*cobra.Command) []string { return logComponents }))
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with new lines until interrupted")
	alias(cmd, "tail", "F", "follow")
	flags.IntVarP(&f.lines, "lines", "n", 100, "the latest `N` lines of each source")
	hiddenAlias(cmd, "line-count", "l", "lines")
	flags.IntVarP(&f.offset, "line-offset", "o", 0, "begin with line `N` of what is kept, 1 the oldest (up to 10000); --lines -M: the M lines up to it")
	flags.StringVarP(&f.from, "from", "a", "", "from this `TIME` on: ISO 8601, or how long ago (5m, 2h, 3d)")
	flags.StringVarP(&f.to, "to", "t", "", "up to this `TIME`")
	flags.BoolVarP(&f.raw, "raw", "r", false, "print each line as the JSON object that it is")
	alias(cmd, "json", "", "raw")
	hiddenAlias(cmd, "raw-mode", "", "raw")
	hiddenAlias(cmd, "after", "", "from")
	flags.BoolVarP(&f.strip, "strip-headers", "S", false, "print the messages alone")
	flags.CountVarP(&f.verbose, "verbose", "v", "show the full ids of tasks, and fractions of seconds")
	cmd.MarkFlagsMutuallyExclusive("line-offset", "follow")
	cmd.MarkFlagsMutuallyExclusive("strip-headers", "raw")
	flags.SortFlags = false
	return cmd
}

func logs(ctx context.Context, env *Env, f logsFlags, linesGiven bool) error {
	for _, c := range f.components {
		if !slices.Contains(logComponents, c) {
			return usagef("--components: %w", unknown("component", c, "the logs", logComponents))
		}
	}
	if f.offset < 0 || f.offset > 10_000 {
		return usagef("--line-offset: want 1 to 10000, not %d", f.offset)
	}
	first, end := f.offset-1, f.offset-1+f.lines
	if f.lines < 0 {
		first, end = f.offset+f.lines, f.offset
	}
	if f.lines < 0 {
		f.lines = -f.lines // PaaSTA's -n -100
	}
	if f.lines < 1 || f.lines > 10_000 {
		return usagef("--lines: want 1 to 10000, not %d", f.lines)
	}
	q := api.LogQuery{Instances: f.instances, Components: f.components, Lines: f.lines, Follow: f.follow}
	var err error
	if q.From, err = moment("from", f.from, env.Now()); err != nil {
		return err
	}
	if q.To, err = moment("to", f.to, env.Now()); err != nil {
		return err
	}
	switch {
	case (linesGiven || f.offset > 0) && f.from+f.to != "":
		return usagef("--lines counts lines and --from and --to say when: use either")
	case !q.To.IsZero() && q.To.Before(q.From):
		return usagef("--to (%s) is before --from (%s)", q.To.Format(time.RFC3339), q.From.Format(time.RFC3339))
	case f.from+f.to != "" || f.offset > 0:
		q.Lines = 10_000
	}
	chosen, err := selectInstances(ctx, env, f.selection)
	if err != nil {
		return err
	}
	q.Service = chosen[0].service.Name
	byCluster := map[string][]string{}
	var clusters []string
	for _, i := range chosen {
		if byCluster[i.cluster] == nil {
			clusters = append(clusters, i.cluster)
		}
		byCluster[i.cluster] = append(byCluster[i.cluster], i.instance)
	}
	p := logPrinter{env: env, logsFlags: f, seen: map[string]bool{}}
	errs := make([]error, len(clusters))
	if !f.follow {
		var all []paasta.LogLine
		for n, cluster := range clusters {
			errs[n] = readLogs(ctx, env, cluster, q, byCluster[cluster], func(l paasta.LogLine) error {
				all = append(all, l)
				return nil
			})
		}
		slices.SortStableFunc(all, func(a, b paasta.LogLine) int { return a.Time.Compare(b.Time) })
		if f.offset > 0 {
			all = all[min(max(first, 0), len(all)):min(end, len(all))]
		}
		for _, l := range all {
			if err := p.print(l); err != nil {
				return err
			}
		}
		return joined(errs)
	}
	ctx, cancel := whileRead(ctx, env.Out)
	defer cancel()
	var wg sync.WaitGroup
	for n, cluster := range clusters {
		wg.Go(func() { errs[n] = followLogs(ctx, env, cluster, q, byCluster[cluster], p.print) })
	}
	wg.Wait()
	return joined(errs)
}

// readLogs reads the logs of one cluster.
func readLogs(ctx context.Context, env *Env, cluster string, q api.LogQuery, instances []string, each func(paasta.LogLine) error) error {
	client, err := env.API(cluster)
	if err != nil {
		return err
	}
	if len(q.Instances) > 0 {
		q.Instances = instances // those that this cluster has
	}
	if err := client.Logs(ctx, q, each); err != nil {
		return fmt.Errorf("logs of %s in %s: %w", q.Service, cluster, err)
	}
	return nil
}

// followLogs reads the logs of one cluster and, when the connection to its API
// breaks, goes on where it broke, for as long as that takes. It gives up when
// the API refuses, and when it does not answer the first time.
func followLogs(ctx context.Context, env *Env, cluster string, q api.LogQuery, instances []string, each func(paasta.LogLine) error) error {
	began := false
	latest := q.From
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		err := readLogs(ctx, env, cluster, q, instances, func(l paasta.LogLine) error {
			began, pause = true, time.Second
			if l.Time.After(latest) {
				latest = l.Time
			}
			return each(l)
		})
		var refused *api.AnswerError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !q.To.IsZero() && !env.Now().Before(q.To):
			return nil
		case err != nil && (!began || errors.As(err, &refused)):
			return err
		case err == nil:
			err = errors.New("the API has closed the connection")
		}
		env.notef("paasta: %v; trying again in %v", err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		began = true
		q.From, q.Lines = latest.Add(time.Nanosecond), 10_000
	}
}

// A logPrinter prints lines, from several clusters at once.
type logPrinter struct {
	env *Env
	logsFlags
	mu   sync.Mutex
	seen map[string]bool // what the APIs had to say, once each
}

func (p *logPrinter) print(l paasta.LogLine) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.Component == "api" { // about the answer, not of it
		if !p.seen[l.Message] {
			p.seen[l.Message] = true
			p.env.notef("paasta: %s: %s", l.Cluster, l.Message)
		}
		return nil
	}
	if p.raw {
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.env.Out, "%s\n", b)
		return err
	}
	at, layout := l.Time.UTC(), time.RFC3339
	if p.env.TTY {
		at = l.Time.Local()
	}
	if p.verbose > 0 {
		layout = time.RFC3339Nano
	}
	c := plain
	if l.Component == "stderr" {
		c = warn
	}
	who := l.Instance
	if l.Task != "" {
		task := short(taskUUID(l.Task))
		if p.verbose > 0 {
			task = l.Task
		}
		who += " " + task
	}
	// Tasks write what they like: nothing of it may reach the terminal as a
	// command.
	text := l.Message
	if p.env.TTY {
		text = printable.Text(text)
	}
	if p.strip {
		_, err := fmt.Fprintln(p.env.Out, text)
		return err
	}
	_, err := fmt.Fprintf(p.env.Out, "%s [%s] [%s] [%s] - [%s] %s\n", p.env.paint(faint, at.Format(layout)), l.Component, l.Cluster, who, l.Level, p.env.paint(c, text))
	return err
}

// moment reads a time: ISO 8601, or how long before now. "" is the zero time.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--%s: %q is no time: want e.g. 2026-01-31T12:00:00Z, or 5m, 2h, 3d for so long ago", flag, text)
}

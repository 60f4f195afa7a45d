package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/forward"
	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/docker/testdeps/gateway"
	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/command"
)

func newTestDeps(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test-deps COMMAND",
		Short: "Start private copies of what a service needs to be tested",
		Long: `Start private copies of what a service's test-dependencies.yaml names: other
services, at the commit that is marked for deployment, with their own test
dependencies, and databases. Each environment has a network of its own, in which
a dependency answers to its name and, as in production, at
169.254.255.254:<proxy_port>; what is not declared is refused there.`,
		Example: `  paasta test-deps run -s web -- go test ./itest
  paasta test-deps up -s web`,
	}
	cmd.AddCommand(newTestDepsUp(env), newTestDepsRun(env), newTestDepsStatus(env), newTestDepsLogs(env), newTestDepsDown(env), newTestDepsGateway())
	return cmd
}

// testDepsFlags are those that say what environment is wanted.
type testDepsFlags struct {
	service, soaDir, name, envFile string
	keep                           time.Duration
	verbose                        bool
	inside                         bool           // only containers of it use the environment
	through                        forward.Dialer // nil: as usual
}

func (f *testDepsFlags) add(cmd *cobra.Command, env *Env) {
	serviceFlag(cmd, env, &f.service)
	soaDirFlag(cmd, &f.soaDir)
	cmd.Flags().StringVar(&f.name, "name", "", "call the environment `NAME`; default: the service and something random")
	cmd.Flags().StringVar(&f.envFile, "env-file", "", "write the addresses to `FILE`, as KEY=VALUE lines, too")
	cmd.Flags().DurationVar(&f.keep, "keep", 12*time.Hour, "let the next up remove it after this `TIME`, at the latest")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show what builds of local checkouts print")
}

// up makes an environment and shows how that goes.
func (f *testDepsFlags) up(ctx context.Context, env *Env, e *environment.Engine, tied bool) (*environment.Environment, error) {
	soaDir, err := env.soaDir(f.soaDir)
	if err != nil {
		return nil, err
	}
	service, err := findService(env, soaDir, f.service)
	if err != nil {
		return nil, err
	}
	config, err := env.Config()
	if err != nil {
		return nil, err
	}
	here, err := env.getwd()
	if err != nil {
		return nil, err
	}
	if f.envFile != "" { // before anything is started
		if _, err := os.Stat(filepath.Dir(f.envFile)); err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", f.envFile, err)
		}
	}
	var output io.Writer
	if f.verbose {
		output = env.Err
	}
	p := newProgress(env)
	x, err := e.Up(ctx, environment.Options{
		SoaDir: soaDir, Service: service, Dir: here, System: config, Name: f.name, Tied: tied, Keep: f.keep, Through: f.through, Inside: f.inside, Self: env.Version != "",
		Report: func(c environment.Change) { p.set(c.Dependency, paintChange(env, c)) }, Output: output,
	})
	p.done()
	if err != nil {
		return nil, fmt.Errorf("test dependencies of %s: %w", service, err)
	}
	for _, note := range x.Notes {
		env.notef("paasta: note: %s", note)
	}
	if f.envFile != "" {
		if err := atomicfile.Write(f.envFile, []byte(strings.Join(x.Variables(), "\n")+"\n"), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("--env-file %s: %w", f.envFile, err), x.Down(ctx))
		}
	}
	return x, nil
}

func paintChange(env *Env, c environment.Change) string {
	as := plain
	switch c.State {
	case "ready":
		as = good
	case "failed":
		as = bad
	}
	return env.paint(as, c.String())
}

func newTestDepsUp(env *Env) *cobra.Command {
	var f testDepsFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up [-s SERVICE]",
		Short: "Start an environment and leave it running",
		Long: `Start an environment and print where its dependencies are, as KEY=VALUE lines:
for a dependency called users USERS_HOST, USERS_PORT and USERS_URL. Before that,
remove environments that are of no use any more.`,
		Example: `  paasta test-deps up -s web
  set -a; eval "$(paasta test-deps up -s web)"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := environment.Dial(cmd.Context(), "")
			if err != nil {
				return err
			}
			defer e.Close()
			x, err := f.up(cmd.Context(), env, e, false)
			if err != nil {
				return err
			}
			env.notef("up: %s; paasta test-deps down --name %s removes it", x.Name, x.Name)
			if asJSON {
				return env.printJSON(shown(x))
			}
			for _, kv := range x.Variables() {
				env.printf("%s\n", kv)
			}
			return nil
		},
	}
	f.add(cmd, env)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// A shownEnvironment is an environment as --json prints it.
type shownEnvironment struct {
	*environment.Environment
	Ready     bool              `json:"ready"`
	Variables map[string]string `json:"variables"` // for processes on the host
}

func shown(x *environment.Environment) shownEnvironment {
	s := shownEnvironment{x, x.Ready(), map[string]string{}}
	for _, kv := range x.Variables() {
		k, v, _ := strings.Cut(kv, "=")
		s.Variables[k] = v
	}
	return s
}

// A choice is which environments a command is about.
type choice struct {
	service, name string
	all           bool
}

func (c *choice) add(cmd *cobra.Command, env *Env) {
	cmd.Flags().StringVarP(&c.service, "service", "s", "", "environments of this `SERVICE`, wherever they were started; default: of this directory")
	complete(cmd, "service", completeServices(env))
	cmd.Flags().StringVar(&c.name, "name", "", "the environment called `NAME`; default: $PAASTA_TEST_DEPS")
	cmd.Flags().BoolVarP(&c.all, "all", "a", false, "all environments on this engine")
}

// selection is by name, or those of a service, or those that were started in
// the current directory.
func (c choice) selection(env *Env) (environment.Selection, error) {
	given := 0
	for _, is := range []bool{c.service != "", c.name != "", c.all} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return environment.Selection{}, usagef("use one of --service, --name and --all")
	case c.all:
		return environment.Selection{}, nil
	case c.service != "":
		return environment.Selection{Service: strings.TrimPrefix(c.service, "services-")}, nil
	}
	if name := cmp.Or(c.name, os.Getenv("PAASTA_TEST_DEPS")); name != "" {
		return environment.Selection{Name: name}, nil
	}
	here, err := env.getwd()
	if err != nil {
		return environment.Selection{}, err
	}
	here, err = filepath.Abs(here)
	return environment.Selection{Dir: here}, err
}

// find returns the environments of a choice.
func (c choice) find(ctx context.Context, env *Env, e *environment.Engine) ([]*environment.Environment, error) {
	s, err := c.selection(env)
	if err != nil {
		return nil, err
	}
	found, err := e.List(ctx, s)
	if err != nil {
		return nil, err
	}
	if s.Name != "" && len(found) == 0 {
		return nil, command.WithHint(fmt.Errorf("there is no environment called %s", s.Name), "paasta test-deps status --all")
	}
	return found, nil
}

func newTestDepsStatus(env *Env) *cobra.Command {
	var c choice
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [-s SERVICE | --name NAME | --all]",
		Short: "Show environments and where their dependencies are",
		Long: `Show the environments that were started in the current directory, or those of a
service, or all. Exits 3 when one of them does not run as a whole. In a pipe:
environment, dependency, state, address on the host or "-", image.`,
		Example: `  paasta test-deps status
  paasta test-deps status --all --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := environment.Dial(cmd.Context(), "")
			if err != nil {
				return err
			}
			defer e.Close()
			found, err := c.find(cmd.Context(), env, e)
			if err != nil {
				return err
			}
			return printTestDeps(env, found, asJSON)
		},
	}
	c.add(cmd, env)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printTestDeps(env *Env, found []*environment.Environment, asJSON bool) error {
	whole := true
	list := []shownEnvironment{}
	for _, x := range found {
		list = append(list, shown(x))
		whole = whole && x.Ready()
	}
	switch {
	case asJSON:
		if err := env.printJSON(list); err != nil {
			return err
		}
	case len(found) == 0:
		env.notef("no environments; paasta test-deps up starts one")
	default:
		t := newTable(env, "ENVIRONMENT", "DEPENDENCY", "STATE", "ADDRESS", "IMAGE")
		for _, x := range found {
			for _, d := range x.Dependencies {
				address, state := "-", env.paint(good, d.State)
				if d.HostPort != 0 {
					address = fmt.Sprintf("127.0.0.1:%d", d.HostPort)
				}
				if d.State != "running" {
					state = env.paint(bad, cmp.Or(d.Status, d.State))
				}
				t.row(x.Name, d.Name, state, address, d.Image)
			}
			if len(x.Dependencies) == 0 {
				t.row(x.Name, "-", "-", "-", "-")
			}
		}
		t.print()
	}
	if !whole {
		return command.ErrNotHealthy
	}
	return nil
}

func newTestDepsLogs(env *Env) *cobra.Command {
	var c choice
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs [-s SERVICE | --name NAME] [DEPENDENCY...]",
		Short: "Show what dependencies log",
		Long: `Show the logs of an environment's dependencies, all or those that are named.
"_gateway" is the part that answers at 169.254.255.254; it logs what was refused.`,
		Example: `  paasta test-deps logs users
  paasta test-deps logs --name web-abc123 -f`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return testDepsLogs(cmd.Context(), env, c, args, lines, follow)
		},
	}
	c.add(cmd, env)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "show the latest `N` of each; -1 for all")
	return cmd
}

func testDepsLogs(ctx context.Context, env *Env, c choice, names []string, lines int, follow bool) error {
	e, err := environment.Dial(ctx, "")
	if err != nil {
		return err
	}
	defer e.Close()
	found, err := c.find(ctx, env, e)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		var names []string
		for _, x := range found {
			names = append(names, x.Name)
		}
		return command.WithHint(fmt.Errorf("%s to choose from: %s", plural(len(found), "environment"), cmp.Or(strings.Join(names, ", "), "none")),
			"--name NAME; paasta test-deps status --all shows them")
	}
	x := found[0]
	if len(names) == 0 {
		for _, d := range x.Dependencies {
			names = append(names, d.Name)
		}
	}
	out := &lineWriter{w: env.Out}
	errs := make([]error, len(names))
	var reading sync.WaitGroup
	for n, name := range names {
		prefix := ""
		if len(names) > 1 {
			prefix = name + ": "
		}
		if !follow {
			errs[n] = x.Logs(ctx, name, lines, false, out.prefixed(prefix))
			continue
		}
		reading.Go(func() { errs[n] = x.Logs(ctx, name, lines, true, out.prefixed(prefix)) })
	}
	reading.Wait()
	return errors.Join(errs...)
}

// A lineWriter writes whole lines of several sources.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) prefixed(prefix string) io.Writer { return &prefixWriter{l: l, prefix: prefix} }

type prefixWriter struct {
	l       *lineWriter
	prefix  string
	partial string
}

func (p *prefixWriter) Write(text []byte) (int, error) {
	all := p.partial + string(text)
	at := strings.LastIndexByte(all, '\n') + 1
	p.partial = all[at:]
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	for line := range strings.Lines(all[:at]) {
		if _, err := io.WriteString(p.l.w, p.prefix+line); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

func newTestDepsDown(env *Env) *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use:   "down [-s SERVICE | --name NAME | --all]",
		Short: "Remove environments",
		Long: `Remove the environments that were started in the current directory, or those of
a service, or all on this engine, half made ones too: containers with their
volumes, and networks.`,
		Example: `  paasta test-deps down
  paasta test-deps down --all`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			e, err := environment.Dial(ctx, "")
			if err != nil {
				return err
			}
			defer e.Close()
			found, err := c.find(ctx, env, e)
			if err != nil {
				return err
			}
			errs := make([]error, len(found))
			var removing sync.WaitGroup
			for n, x := range found {
				removing.Go(func() { errs[n] = x.Down(ctx) })
			}
			removing.Wait()
			for n, x := range found {
				if errs[n] == nil {
					env.printf("%s\n", x.Name)
				}
			}
			if len(found) == 0 {
				env.notef("no environments to remove")
			}
			return errors.Join(errs...)
		},
	}
	c.add(cmd, env)
	return cmd
}

// newTestDepsGateway is what runs inside an environment.
func newTestDepsGateway() *cobra.Command {
	return &cobra.Command{
		Use: "gateway", Short: "Be the gateway of an environment", Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return gateway.Run(cmd.Context()) },
	}
}

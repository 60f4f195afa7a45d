package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/localrun"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

type localRunFlags struct {
	service, cluster, instance, soaDir   string
	build, pull, dryRun, asJSON          bool
	cmd, sha, gitURL                     string
	interactive                          bool
	noHealthcheck, healthcheckOnly, skip bool
	withDeps                             bool
	port, verbose                        int
	secrets, volumes                     []string
	secretsFile                          string
}

func newLocalRun(env *Env) *cobra.Command {
	var f localRunFlags
	cmd := &cobra.Command{
		Use:   "local-run [-s SERVICE] [-i INSTANCE] [--pull | --dry-run]",
		Short: "Run an instance of a service on this machine",
		Long: `Build the service's image in the current directory, its repository, with "make
cook-image" (or pull the one that is deployed), and run an instance from it in a
container as production would: with its command, environment, limits, volumes
and health check. Ctrl-C stops it. Without an instance it opens a shell in the
image. The exit code is the container's; with --healthcheck-only it is 0 when
the health check passes and 1 when it does not.`,
		Example: `  paasta local-run -s web -i main
  paasta local-run -s web -i main --pull --healthcheck-only
  paasta local-run -s web -i main --dry-run --json-dict`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var command *string
			if cmd.Flags().Changed("cmd") {
				command = &f.cmd
			}
			return localRun(cmd.Context(), env, f, command)
		},
	}
	flags := cmd.Flags()
	serviceFlag(cmd, env, &f.service)
	flags.StringVarP(&f.cluster, "cluster", "c", "", "as in this `CLUSTER`; default: local_run_cluster of the system config")
	complete(cmd, "cluster", completeClusters(env))
	flags.StringVarP(&f.instance, "instance", "i", "", "the `INSTANCE`; default: a shell")
	complete(cmd, "instance", completeInstances(env))
	// Not soaDirFlag: -d means something else here, as in PaaSTA.
	flags.StringVar(&f.soaDir, "soa-dir", "", "read soa-configs from `DIR`; default: soa_dir of the system config")
	soaDirAlias(cmd)
	flags.BoolVarP(&f.build, "build", "b", false, "build the image first: this is the default")
	flags.BoolVarP(&f.pull, "pull", "p", false, "pull the image that is deployed instead of building one")
	flags.BoolVarP(&f.dryRun, "dry-run", "d", false, "print the docker command as a JSON list, build, pull and run nothing")
	flags.BoolVar(&f.asJSON, "json-dict", false, "with --dry-run, print what would run as a JSON object")
	flags.StringVarP(&f.cmd, "cmd", "C", "", "run this shell `COMMAND` instead of the instance's")
	flags.BoolVarP(&f.interactive, "interactive", "I", false, "with a terminal; runs a shell unless --cmd says otherwise")
	flags.BoolVarP(&f.noHealthcheck, "no-healthcheck", "k", false, "do not check its health")
	flags.CountVarP(&f.verbose, "verbose", "v", "also print the docker command that runs it")
	flags.BoolVarP(&f.healthcheckOnly, "healthcheck-only", "t", false, "stop once the health check has passed (exit 0) or failed (exit 1)")
	flags.IntVarP(&f.port, "port", "o", 0, "`PORT` on this machine; default: one that stays the same for you and this service")
	flags.StringVar(&f.sha, "sha", "", "pull and run the image of this `COMMIT`")
	alias(cmd, "commit", "", "sha")
	gitURLFlag(cmd, &f.gitURL)
	flags.StringArrayVar(&f.secrets, "secret", nil, "`NAME=VALUE` of a secret; NAME alone takes the value of our own environment variable NAME")
	flags.StringVar(&f.secretsFile, "secrets-file", "", "read secrets, a NAME=VALUE a line, from `FILE`")
	flags.BoolVar(&f.skip, "skip-secrets", false, "leave variables out that hold a secret whose value is not given")
	flags.BoolVar(&f.withDeps, "with-deps", false, "start the service's test dependencies first, and remove them at the end")
	flags.StringArrayVar(&f.volumes, "volume", nil, "mount `HOST:CONTAINER[:ro|rw]` as well, read-write by default; may be given more than once")
	ignored(cmd, env, "date", "it is for the dates in Chronos and Tron jobs, and there are none")
	cmd.MarkFlagsMutuallyExclusive("build", "pull")
	cmd.MarkFlagsMutuallyExclusive("build", "sha")
	cmd.MarkFlagsMutuallyExclusive("no-healthcheck", "healthcheck-only")
	cmd.MarkFlagsMutuallyExclusive("interactive", "healthcheck-only")
	return cmd
}

func localRun(ctx context.Context, env *Env, f localRunFlags, cmd *string) error {
	switch {
	case f.healthcheckOnly && f.instance == "":
		return usagef("--healthcheck-only needs --instance")
	case f.asJSON && !f.dryRun:
		return usagef("--json-dict needs --dry-run")
	case f.port < 0 || f.port > 65535:
		return usagef("--port %d: want 1 to 65535", f.port)
	}
	shell := f.interactive || f.instance == ""
	if shell && !f.dryRun && (!env.InTTY || !env.TTY) {
		return usagef("a shell needs a terminal; name an --instance to run that")
	}
	r, s, err := localRequest(ctx, env, f)
	if err != nil {
		return err
	}
	r.Cmd, r.Shell = cmd, shell
	if err := checkSecrets(r); err != nil { // before a build, which takes long
		return err
	}
	image, err := chooseImage(ctx, env, f, s, r.Instance.DeployGroup)
	if err != nil {
		return err
	}
	r.Image, r.Deployed, r.SHA = image.ref, image.deployed, image.sha
	if r.Port = f.port; r.Port == 0 {
		if r.Port, err = localrun.FreePort(localrun.PreferredPort(s.Name, r.User)); err != nil {
			return err
		}
	}
	if f.dryRun {
		return printSpec(env, r, f.asJSON)
	}
	engine, err := localrun.Dial(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	if f.port != 0 {
		if err := engine.CheckPort(ctx, f.port); err != nil {
			return portHint(err)
		}
	}
	if err := image.fetch(ctx); err != nil {
		return err
	}
	if f.withDeps {
		down, err := startDependencies(ctx, env, s, f, &r)
		if err != nil {
			return err
		}
		defer down()
	}
	return runLocally(ctx, env, engine, r, f)
}

// runLocally runs what is asked for and turns how it ends into an exit code.
func runLocally(ctx context.Context, env *Env, engine *localrun.Engine, r localrun.Request, f localRunFlags) error {
	spec, err := localrun.Form(r)
	if err != nil {
		return err
	}
	if f.verbose > 0 {
		env.notef("%s", strings.Join(spec.Command(), " "))
	}
	for _, variable := range spec.Left {
		env.notef("Warning: %s holds a secret and is left out", variable)
	}
	reach, err := reachOf(env, engine, r.Port)
	if err != nil {
		return err
	}
	defer reach.close()
	status, err := engine.Run(ctx, spec, localrun.Options{
		In: env.In, Out: env.Out, Err: env.Err, Say: env.notef, Dial: reach.dial,
		NoHealthcheck: f.noHealthcheck || spec.TTY, HealthcheckOnly: f.healthcheckOnly,
		FixedPort: f.port != 0, Started: reach.forward,
	})
	var killed *localrun.KilledError
	var none *localrun.NoImageError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &killed):
		return command.WithHint(err, fmt.Sprintf("more mem for %s in marathon-%s.yaml, or less for the service to do", r.Instance.Name, r.Instance.Cluster))
	case errors.As(err, &none):
		return command.WithHint(err, fmt.Sprintf("make cook-image has to build with --tag \"$(DOCKER_TAG)\", here %s, on the engine of DOCKER_HOST", none.Image))
	case err != nil:
		return portHint(err)
	case status != 0:
		return command.ExitError{Code: status}
	}
	return nil
}

// portHint says what helps when a port is taken.
func portHint(err error) error {
	if _, ok := errors.AsType[*localrun.PortTakenError](err); ok {
		return command.WithHint(err, "another --port, or none: then a free one is chosen")
	}
	return err
}

// localRequest gathers what soa-configs and this machine say about the run.
func localRequest(ctx context.Context, env *Env, f localRunFlags) (localrun.Request, *soaconfig.Service, error) {
	var r localrun.Request
	s, err := loadService(env, f.soaDir, f.service)
	if err != nil {
		return r, nil, err
	}
	if r.System, err = env.Config(); err != nil {
		return r, nil, err
	}
	cluster, err := clusterOrDefault(env, f.cluster)
	if err != nil {
		return r, nil, err
	}
	r.System.Cluster = cluster
	if r.Instance, err = localInstance(s, cluster, f.instance); err != nil {
		return r, nil, err
	}
	for _, text := range f.volumes {
		v, err := volume(text)
		if err != nil {
			return r, nil, err
		}
		r.Instance.Volumes = append(slices.Clone(r.Instance.Volumes), v)
	}
	r.Namespace = namespaceOf(s, r.Instance)
	r.Team = cmp.Or(r.Instance.MonitoringTeam, s.Monitoring.Team)
	r.User = userName()
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return r, nil, err
	}
	r.ID = hex.EncodeToString(id)
	if r.Host = r.System.Hostname; r.Host == "" {
		if r.Host, err = os.Hostname(); err != nil {
			return r, nil, err
		}
	}
	r.SkipSecrets = f.skip
	r.Secrets, err = readSecrets(f.secrets, f.secretsFile)
	return r, s, err
}

// volume reads --volume, which is written as docker's.
func volume(text string) (soaconfig.Volume, error) {
	host, rest, _ := strings.Cut(text, ":")
	container, mode, _ := strings.Cut(rest, ":")
	mode = strings.ToUpper(cmp.Or(mode, "rw"))
	if host == "" || container == "" || mode != "RO" && mode != "RW" {
		return soaconfig.Volume{}, usagef("--volume %q: want HOST:CONTAINER, or HOST:CONTAINER:ro", text)
	}
	host, err := filepath.Abs(host)
	return soaconfig.Volume{HostPath: host, ContainerPath: container, Mode: mode}, err
}

// localInstance finds an instance among those that are scheduled and those
// that are not. "" is the adhoc instance called interactive, which need not be
// there.
func localInstance(s *soaconfig.Service, cluster, name string) (soaconfig.Instance, error) {
	wanted := cmp.Or(name, "interactive")
	for _, entries := range []soaconfig.Entries[soaconfig.Instance]{s.Instances[cluster], s.Adhoc[cluster]} {
		if i, found, err := entries.Find(wanted); err != nil {
			return i, fmt.Errorf("%s.%s in %s: %w", s.Name, wanted, cluster, err)
		} else if found {
			return i, nil
		}
	}
	if name == "" {
		return localrun.Adhoc(s.Name, cluster), nil
	}
	known := instancesOf(s, []string{cluster})
	for adhoc := range s.Adhoc[cluster].Valid {
		known = append(known, adhoc)
	}
	if len(known) == 0 {
		return soaconfig.Instance{}, command.WithHint(fmt.Errorf("%s has no instances in the cluster %s", s.Name, cluster),
			"--cluster, one of: "+strings.Join(s.Clusters, ", "))
	}
	return soaconfig.Instance{}, unknown("instance", name, s.Name+" in "+cluster, known)
}

// namespaceOf is the namespace of an instance's primary registration, nil when
// it has none or another service's.
func namespaceOf(s *soaconfig.Service, i soaconfig.Instance) *soaconfig.Namespace {
	if len(i.Registrations) == 0 {
		return nil
	}
	service, name, _ := strings.Cut(i.Registrations[0], ".")
	if ns, ok := s.Namespaces.Valid[name]; ok && service == s.Name {
		return &ns
	}
	return nil
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// printSpec prints what would run.
func printSpec(env *Env, r localrun.Request, asObject bool) error {
	spec, err := localrun.Form(r)
	if err != nil {
		return err
	}
	if asObject {
		return env.printJSON(spec)
	}
	text, err := json.Marshal(spec.Command())
	if err != nil {
		return err
	}
	env.printf("%s\n", text)
	return nil
}

package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/docker/testdeps/graph"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/git"
	"github.com/gopaasta/paasta/paasta/process"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// A target is the image that a node runs.
type target struct {
	ref   string // as the engine is asked for it
	image string // relative to the registry, "" for what is no service of ours
	sha   string
	why   string // e.g. "marked for prod.main 2 days ago", for messages
	built bool   // here; nobody can pull it
}

// A builder builds the local checkouts that declarations name.
type resolver struct {
	system sysconfig.Config
	dir    string // of the service's repository
	output io.Writer
	report func(state, detail string)
}

// target finds out what a node runs. Of an image it is what stands there.
func (r resolver) target(ctx context.Context, n *graph.Node) (target, error) {
	switch {
	case n.Service == nil:
		return target{ref: n.Dep.Image}, nil
	case n.Dep.Build != "":
		return r.build(ctx, n)
	}
	t, err := r.marked(ctx, n)
	if err != nil {
		return target{}, err
	}
	registry := cmp.Or(n.Service.DockerRegistry, r.system.DockerRegistry)
	if registry == "" {
		return target{}, command.WithHint(fmt.Errorf("nobody said in which registry the images of %s are", n.Service.Name),
			"set docker_registry in the system config, or in "+filepath.Join(n.Service.Dir, "service.yaml"))
	}
	if t.image == "" {
		t.image = paasta.ImageName(n.Service.Name, t.sha)
	}
	t.ref = registry + "/" + t.image
	return t, nil
}

// marked is the commit that is declared, or the one that is marked for the group.
func (r resolver) marked(ctx context.Context, n *graph.Node) (target, error) {
	if paasta.IsSHA(n.Dep.Commit) {
		return target{sha: n.Dep.Commit, why: "commit " + short(n.Dep.Commit) + " of " + n.Owner.TestDeps.File}, nil
	}
	if n.Service.GitURL == "" && n.Dep.Commit == "" {
		return fromFile(n)
	}
	remote, err := git.Open(n.Service.GitURL)
	if err != nil {
		return target{}, command.WithHint(fmt.Errorf("the repository of %s: %w", n.Service.Name, err),
			"set git_url in "+filepath.Join(n.Service.Dir, "service.yaml"))
	}
	if n.Dep.Commit != "" {
		sha, err := remote.InClone(r.dir).Expand(ctx, n.Dep.Commit)
		return target{sha: sha, why: "commit " + n.Dep.Commit + " of " + n.Owner.TestDeps.File}, err
	}
	tags, err := remote.Tags(ctx)
	if err != nil {
		return target{}, fmt.Errorf("what is marked for %s: %w", n.Group, err)
	}
	log := paasta.NewTagLog(tags)
	if tag, ok := log.Latest(n.Group); ok {
		why := fmt.Sprintf("commit %s, marked for %s at %s", short(tag.SHA), n.Group, tag.Time.UTC().Format(time.RFC3339))
		return target{sha: tag.SHA, why: why}, nil
	}
	return target{}, notMarked(n, remote.String(), log.Groups())
}

// fromFile is for services whose repository is not known here.
func fromFile(n *graph.Node) (target, error) {
	file := filepath.Join(n.Service.Dir, "deployments.json")
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return target{}, command.WithHint(fmt.Errorf("nobody said where the repository of %s is, whose tags say what is marked for %s", n.Service.Name, n.Group),
			"set git_url in "+filepath.Join(n.Service.Dir, "service.yaml"))
	}
	if err != nil {
		return target{}, err
	}
	d, err := deployments.Decode(text)
	if err != nil {
		return target{}, fmt.Errorf("%s: %w", file, err)
	}
	marked, ok := d.V2.Deployments[n.Group]
	if !ok {
		var groups []string
		for group := range d.V2.Deployments {
			groups = append(groups, group)
		}
		return target{}, notMarked(n, file, groups)
	}
	return target{image: marked.DockerImage, sha: marked.GitSHA, why: fmt.Sprintf("commit %s, marked for %s", short(marked.GitSHA), n.Group)}, nil
}

func notMarked(n *graph.Node, where string, groups []string) error {
	text := "nothing is marked for any deploy group"
	if len(groups) > 0 {
		text = "marked are only " + strings.Join(groups, ", ")
	}
	return command.WithHint(fmt.Errorf("nothing is marked for deployment to %s of %s (%s: %s)", n.Group, n.Service.Name, where, text),
		fmt.Sprintf("paasta mark-for-deployment -s %s -l %s -c COMMIT, or say commit or build in %s", n.Service.Name, n.Group, n.Owner.TestDeps.File))
}

// build runs the checkout's "make cook-image".
func (r resolver) build(ctx context.Context, n *graph.Node) (target, error) {
	dir := n.Dep.Build
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(r.dir, dir)
	}
	ref := "paasta-test-deps-" + strings.ToLower(n.Service.Name) + ":" + tagOf(dir)
	r.report("building", "in "+dir)
	said := process.Tail{Max: 8 << 10}
	out := io.MultiWriter(r.output, &said)
	err := image.Target{Dir: dir, Name: "cook-image", DockerTag: ref, Out: out, Err: out}.Make(ctx)
	if err != nil {
		return target{}, &buildError{fmt.Errorf("build %s in %s: %w", n.Service.Name, dir, err), lastOf(said.String(), logged)}
	}
	return target{ref: ref, image: ref, sha: strings.Repeat("0", 40), why: "built in " + dir, built: true}, nil
}

// A buildError is a build that did not succeed, and the last that it printed.
type buildError struct {
	err   error
	lines []string
}

func (e *buildError) Error() string { return e.err.Error() }
func (e *buildError) Unwrap() error { return e.err }

// lastOf are the last lines of a text, at most n.
func lastOf(text string, n int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}

func short(sha string) string { return sha[:min(8, len(sha))] }

// loader reads services of soa-configs.
func loader(dir string) func(string) (*soaconfig.Service, error) {
	return func(name string) (*soaconfig.Service, error) {
		s, err := soaconfig.LoadService(dir, name, soaconfig.Options{})
		if errors.Is(err, os.ErrNotExist) {
			err = command.WithHint(fmt.Errorf("there is no service %s in %s", name, dir), "paasta validate, which guesses what was meant; paasta list --all shows what there is")
		}
		return s, err
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/docker/localrun"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/deployments"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A localImage is the image of a local run and how to get it.
type localImage struct {
	ref      string // as the engine knows it
	deployed string // as production knows it, without the registry; "" for one that is built here
	sha      string // "" when unknown
	fetch    func(context.Context) error
}

// chooseImage decides on the image: built here, or the deployed one.
func chooseImage(ctx context.Context, env *Env, f localRunFlags, s *soaconfig.Service, group string) (localImage, error) {
	if !f.pull && f.sha == "" {
		ref := os.Getenv("DOCKER_TAG")
		if ref == "" {
			ref = "paasta-local-run-" + s.Name + "-" + userName()
		}
		sha, err := localCommit(ctx, env, "")
		if err != nil {
			sha = "" // not a repository: fine for a try
		}
		return localImage{ref: ref, sha: sha, fetch: func(ctx context.Context) error {
			// What make says is about the answer; the answer is what the service says.
			quiet := *env
			quiet.Out = env.Err
			return runTarget(ctx, &quiet, "cook-image", ref)
		}}, nil
	}
	sha, err := commitOfGroup(ctx, env, f, s, group)
	if err != nil {
		return localImage{}, err
	}
	registry, ref, err := imageOf(env, s, sha)
	if err != nil {
		return localImage{}, err
	}
	return localImage{ref: ref, deployed: paasta.ImageName(s.Name, sha), sha: sha, fetch: func(ctx context.Context) error {
		return pullImage(ctx, env, s, registry, ref, sha)
	}}, nil
}

// commitOfGroup is the commit of --sha, or else the one that is marked for the
// instance's deploy group: as the tags say, or deployments.json where there is
// no repository to ask.
func commitOfGroup(ctx context.Context, env *Env, f localRunFlags, s *soaconfig.Service, group string) (string, error) {
	if paasta.IsSHA(f.sha) {
		return f.sha, nil
	}
	r, err := openRepository(env, s, f.gitURL)
	if err != nil || f.sha != "" {
		if err == nil {
			sha, err := expandRevision(ctx, env, r, f.sha)
			return sha, adviseGit(err)
		}
		if f.sha != "" {
			return "", err
		}
		return fromFile(s, group, err)
	}
	log, err := tagLog(ctx, r)
	if err != nil {
		return fromFile(s, group, err)
	}
	latest, ok := log.Latest(group)
	if !ok {
		return "", notMarked(s, group)
	}
	return latest.SHA, nil
}

func notMarked(s *soaconfig.Service, group string) error {
	return command.WithHint(fmt.Errorf("nothing was marked for deployment in deploy group %s of %s yet, so there is no image to pull", group, s.Name),
		"--build, or --sha COMMIT for an image that was pushed")
}

// fromFile reads deployments.json; why says why the tags were not read.
func fromFile(s *soaconfig.Service, group string, why error) (string, error) {
	path := filepath.Join(s.Dir, "deployments.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", why
	}
	file, err := deployments.Decode(text)
	if err != nil {
		return "", errors.Join(why, fmt.Errorf("%s: %w", path, err))
	}
	d, ok := file.V2.Deployments[group]
	if !ok {
		return "", errors.Join(why, notMarked(s, group))
	}
	return d.GitSHA, nil
}

// pullImage fetches an image that the engine does not have yet.
func pullImage(ctx context.Context, env *Env, s *soaconfig.Service, registry, ref, sha string) error {
	engine, err := image.Dial(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	if has, err := engine.Has(ctx, ref); err != nil || has {
		return err // names of ours are never used twice, so what is here is right
	}
	credentials, err := image.FindCredentials(ctx, registry)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, pushTimeout, fmt.Errorf("not done after %s", pushTimeout))
	defer cancel()
	p := newProgress(env)
	err = engine.Pull(bounded, ref, credentials, func(layer image.Progress) { showTransfer(p, env.ErrTTY, layer) })
	p.done()
	if errors.Is(err, image.ErrNotInRegistry) {
		return command.WithHint(fmt.Errorf("there is no image %s: %w", ref, err),
			fmt.Sprintf("paasta push-to-registry -s %s -c %s where it was built, or --build here", s.Name, short(sha)))
	}
	return err
}

// checkSecrets is an error when the run would lack secrets.
func checkSecrets(r localrun.Request) error {
	r.Image = "not known yet"
	_, err := localrun.Form(r)
	if _, ok := errors.AsType[*localrun.MissingSecretsError](err); ok {
		return command.WithHint(err, "--secret NAME=VALUE for each, --secrets-file FILE, or --skip-secrets to leave them out")
	}
	return err
}

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gopaasta/paasta/docker/image"
	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/command"
)

// pushTimeout bounds a push; images can be large and networks slow.
const pushTimeout = time.Hour

func newPushToRegistry(env *Env) *cobra.Command {
	var service, commit, soaDir string
	var force bool
	cmd := &cobra.Command{
		Use:   "push-to-registry [-s SERVICE] [-c COMMIT]",
		Short: "Push a service's image to the registry",
		Long: `Push the image that "paasta itest" built to the registry. One that is there
already stays as it is: hosts may run it. That is no error.`,
		Example: `  paasta push-to-registry -s web -c "$(git rev-parse HEAD)"
  cd web && paasta push-to-registry`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return pushToRegistry(cmd.Context(), env, service, commit, soaDir, force)
		},
	}
	serviceFlag(cmd, env, &service)
	soaDirFlag(cmd, &soaDir)
	cmd.Flags().StringVarP(&commit, "commit", "c", "", "the `COMMIT` that the image was built from; default: HEAD")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "push even if the registry has an image of that name")
	return cmd
}

func pushToRegistry(ctx context.Context, env *Env, service, commit, soaDir string, force bool) error {
	s, err := loadService(env, soaDir, service)
	if err != nil {
		return err
	}
	sha, err := localCommit(ctx, env, commit)
	if err != nil {
		return err
	}
	address, ref, err := imageOf(env, s, sha)
	if err != nil {
		return err
	}
	credentials, err := image.FindCredentials(ctx, address)
	if err != nil {
		return err
	}
	if !force {
		has, err := image.Registry{Address: address, Credentials: credentials}.Has(ctx, paasta.ImageName(s.Name, sha))
		if err != nil {
			return command.WithHint(err, "is the registry up? docker_registry is "+address)
		}
		if has {
			env.notef("The registry already has %s. I'm NOT overriding the existing image. Add --force to override the image.", ref)
			return nil
		}
	}
	engine, err := image.Dial(ctx)
	if err != nil {
		return err
	}
	defer engine.Close()
	has, err := engine.Has(ctx, ref)
	if err == nil && !has {
		err = command.WithHint(fmt.Errorf("there is no image %s here to push", ref), "paasta itest -s "+s.Name+" -c "+sha)
	}
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, pushTimeout, fmt.Errorf("not done after %s", pushTimeout))
	defer cancel()
	p := newProgress(env)
	err = engine.Push(bounded, ref, credentials, func(layer image.Progress) { showTransfer(p, env.ErrTTY, layer) })
	p.done()
	if err != nil {
		return err
	}
	env.notef("pushed: %s", ref)
	return nil
}

// showTransfer gives each layer of a push or pull a row. In a pipe only what is
// final is shown.
func showTransfer(p *progress, tty bool, layer image.Progress) {
	if layer.Layer == "" {
		return // what the whole is called and its digest
	}
	text := layer.Layer + ": " + layer.Text
	switch {
	case !tty && layer.Text != "Pushed" && layer.Text != "Layer already exists" && layer.Text != "Pull complete" && layer.Text != "Already exists":
		return
	case layer.Total > 0 && (layer.Text == "Pushing" || layer.Text == "Downloading" || layer.Text == "Extracting"):
		text += fmt.Sprintf(" %d of %d kB", layer.Done/1000, layer.Total/1000)
	}
	p.set(layer.Layer, text)
}

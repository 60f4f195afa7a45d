package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/gopaasta/paasta/paasta"
)

// listGoGit lists with go-git: a local repository without git, or one behind
// ssh without the ssh program.
func (r *Remote) listGoGit(ctx context.Context, prefixes []string) (*listing, error) {
	l := &listing{refs: map[string]string{}}
	if r.scheme == "file" {
		repo, err := gogit.PlainOpen(r.path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		refs, err := repo.References()
		if err != nil {
			return nil, err
		}
		return l, refs.ForEach(func(ref *plumbing.Reference) error {
			if ref.Type() == plumbing.HashReference {
				sha := ref.Hash()
				if tag, err := repo.TagObject(sha); err == nil {
					sha = tag.Target
				}
				l.add(ref.Name().String(), sha.String(), prefixes)
			}
			return ctx.Err()
		})
	}
	endpoint, err := transport.NewEndpoint(r.sshURL())
	if err != nil {
		return nil, err
	}
	s, err := ssh.DefaultClient.NewUploadPackSession(endpoint, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer s.Close()
	advertised, err := s.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	l.take(advertised, prefixes)
	return l, nil
}

func (l *listing) take(advertised *packp.AdvRefs, prefixes []string) {
	for name, sha := range advertised.References {
		if peeled, ok := advertised.Peeled[name]; ok {
			sha = peeled
		}
		l.add(name, sha.String(), prefixes)
	}
}

func (r *Remote) sshURL() string {
	host := r.host
	if r.user != nil {
		host = r.user.Username() + "@" + host
	}
	if r.port == "" && r.path[0] != '/' {
		return host + ":" + r.path
	}
	if r.port != "" {
		host += ":" + r.port
	}
	return "ssh://" + host + "/" + strings.TrimPrefix(r.path, "/")
}

func (r *Remote) pushGoGit(ctx context.Context, tags []paasta.Tag) error {
	if r.scheme == "file" {
		return r.writeGoGit(tags)
	}
	endpoint, err := transport.NewEndpoint(r.sshURL())
	if err != nil {
		return err
	}
	s, err := ssh.DefaultClient.NewReceivePackSession(endpoint, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer s.Close()
	advertised, err := s.AdvertisedReferencesContext(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	request := packp.NewReferenceUpdateRequestFromCapabilities(advertised.Capabilities)
	request.Packfile = io.NopCloser(bytes.NewReader(emptyPack()))
	for _, t := range tags {
		if _, ok := advertised.References[t.Ref()]; ok {
			return fmt.Errorf("%s: %w", t.Ref(), ErrExists)
		}
		request.Commands = append(request.Commands, &packp.Command{Name: plumbing.ReferenceName(t.Ref()), New: plumbing.NewHash(t.SHA)})
	}
	report, err := s.ReceivePack(ctx, request)
	if report != nil {
		var refused []error
		for _, c := range report.CommandStatuses {
			if c.Status != "ok" {
				refused = append(refused, refusal(c.ReferenceName.String()+" "+c.Status, ""))
			}
		}
		if len(refused) > 0 {
			return errors.Join(refused...)
		}
	}
	return err
}

// writeGoGit writes refs into a repository on this machine.
func (r *Remote) writeGoGit(tags []paasta.Tag) error {
	repo, err := gogit.PlainOpen(r.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	s, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return fmt.Errorf("%s is no repository in files", r.path)
	}
	for _, t := range tags {
		// Git's own lock of a ref: go-git has none for one that is new.
		lock := filepath.Join(s.Filesystem().Root(), filepath.FromSlash(t.Ref())+".lock")
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", t.Ref(), ErrExists)
		}
		if err != nil {
			return err
		}
		f.Close()
		defer os.Remove(lock)
		if _, err := s.Reference(plumbing.ReferenceName(t.Ref())); err == nil {
			return fmt.Errorf("%s: %w", t.Ref(), ErrExists)
		}
		if _, err := repo.CommitObject(plumbing.NewHash(t.SHA)); err != nil {
			return fmt.Errorf("%s: %w", t.SHA, ErrNoCommit)
		}
	}
	for _, t := range tags {
		if err := s.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(t.Ref()), plumbing.NewHash(t.SHA))); err != nil {
			return err
		}
	}
	return nil
}

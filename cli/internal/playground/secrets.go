//go:build linux

package playground

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/atomicfile"
	"github.com/gopaasta/paasta/paasta/zk"
)

// secrets keep other accounts of this host from changing what runs, as root, in
// the playground. They are in files of DIR/secrets, for root alone.
type secrets struct {
	marathon  string // the token of paasta marathon
	zooKeeper string // the password of the digest user "paasta"
}

// makeSecrets reads the secrets, and makes those that are not there.
func (p *Playground) makeSecrets() (secrets, error) {
	if err := os.MkdirAll(p.path("secrets"), 0o700); err != nil {
		return secrets{}, err
	}
	var s secrets
	for file, value := range map[string]*string{p.tokenFile(): &s.marathon, p.zooKeeperPassword(): &s.zooKeeper} {
		text, err := os.ReadFile(file)
		*value = strings.TrimSpace(string(text))
		switch {
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return secrets{}, err
		case *value != "":
			continue
		}
		*value = rand.Text()
		if err := atomicfile.Write(file, []byte(*value+"\n"), 0o600); err != nil {
			return secrets{}, err
		}
	}
	return s, nil
}

func (p *Playground) tokenFile() string         { return p.path("secrets", "marathon.token") }
func (p *Playground) zooKeeperPassword() string { return p.path("secrets", "zookeeper.password") }

// restrictZooKeeper has ZooKeeper's whole tree changed by nobody but who has the
// password, from inside the namespace.
func (p *Playground) restrictZooKeeper() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := p.inside(ctx, "", p.Binary, "playground", "restrict", "--dir", p.Dir)
	return err
}

// Restrict does so where it is called: it has to be inside.
func (p *Playground) Restrict(ctx context.Context) error {
	s, err := p.makeSecrets()
	if err != nil {
		return err
	}
	conn, err := zk.Dial(zk.Options{Servers: p.at(PortZooKeeper), Auth: "paasta:" + s.zooKeeper})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Restrict(ctx, "/"); err != nil {
		return fmt.Errorf("restrict what anybody may change in ZooKeeper: %w", err)
	}
	return nil
}

package zk

import (
	"context"
	"errors"
	"path"

	"github.com/go-zookeeper/zk"
)

// Restrict takes from whoever does not have c's credentials what they could
// change at p and below it: the znodes there get the ACL of those that c makes.
// A parent comes before its children, so what was made meanwhile is restricted
// too. Without credentials it is an error.
func (c *Conn) Restrict(ctx context.Context, p string) error {
	if c.auth == "" {
		return errors.New("restrict " + p + ": no credentials are set (zookeeper_auth)")
	}
	_, err := call(ctx, c, "restrict", p, true, func(lib *zk.Conn, _ int) (struct{}, error) {
		acl, _, err := lib.GetACL(c.full(p))
		if err != nil || !openToAll(acl) {
			return struct{}{}, err
		}
		_, err = lib.SetACL(c.full(p), c.acl, -1)
		return struct{}{}, err
	})
	if errors.Is(err, ErrNoNode) {
		return nil
	} else if err != nil {
		return err
	}
	names, _, err := c.Children(ctx, p)
	if errors.Is(err, ErrNoNode) {
		return nil
	} else if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.Restrict(ctx, path.Join(p, name)); err != nil {
			return err
		}
	}
	return nil
}

func openToAll(acl []zk.ACL) bool {
	for _, entry := range acl {
		if entry.Scheme == "world" && entry.Perms&^zk.PermRead != 0 {
			return true
		}
	}
	return false
}

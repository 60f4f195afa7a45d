package zktest

import (
	"time"

	"github.com/go-zookeeper/zk"
)

// Hide gives a znode to a stranger: nobody else may read or change it.
func (s *Server) Hide(path string) {
	s.t.Helper()
	c, _, err := zk.Connect([]string{s.addr}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.SetACL(path, zk.DigestACL(zk.PermAll, "stranger", "secret"), -1); err != nil {
		s.t.Fatalf("hide %s: %v", path, err)
	}
}

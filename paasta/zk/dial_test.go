package zk

import (
	"testing"
)

// However long ZooKeeper is away, the pause between two dials stays short; a
// session that it calls expired costs no pause, but not over and over.
func TestPauses(t *testing.T) {
	var l connState
	if d := l.pause(); d != 0 {
		t.Errorf("the first dial waits %s", d)
	}
	for range 1000 {
		if d := l.pause(); d <= 0 || d > maxDialPause {
			t.Errorf("a dial waits %s", d)
		}
	}
	l.expired()
	if d := l.pause(); d == 0 {
		t.Error("expired without ever having been a session, and the next dial does not wait")
	}
	l.connected()
	l.expired()
	if d := l.pause(); d != 0 {
		t.Errorf("the session has expired, and the dial for the next waits %s", d)
	}
	l.expired()
	if d := l.pause(); d == 0 {
		t.Error("expired at once again, and the next dial does not wait")
	}
}

package haproxy

import (
	"context"
	"time"
)

// A Session is a connection to the runtime API that is kept from one change to
// the next: to make one, and to hear each time who answers, costs more than a
// command. What it is connected to is the process that was there then, so Close
// it whenever another one may be meant; a process that is to end waits for it.
// One goroutine uses it.
type Session struct {
	Runtime
	client *client   // nil: none is kept
	made   time.Time // the connection
	used   time.Time // for the last time
}

const (
	// sessionIdle is how long a connection is kept that nobody uses.
	sessionIdle = time.Second
	// sessionAge is how long it is kept at most: somebody else may have reloaded
	// HAProxy, and the old process answers as if nothing were.
	sessionAge = 5 * time.Second
)

// Close ends the connection, if one is kept.
func (s *Session) Close() {
	if s.client != nil {
		s.client.close()
		s.client = nil
	}
}

// Due is when Rest has something to do; zero for never.
func (s *Session) Due() time.Time {
	if s.client == nil {
		return time.Time{}
	}
	return s.used.Add(sessionIdle)
}

// Rest ends a connection that has not been used lately.
func (s *Session) Rest(now time.Time) {
	if s.client != nil && !now.Before(s.Due()) {
		s.Close()
	}
}

// Do is Runtime.Do on the connection that is kept. When it fails, nobody knows
// which of the commands were carried out.
func (s *Session) Do(ctx context.Context, pid int, commands ...string) ([]string, error) {
	now := time.Now()
	if s.client != nil && (s.client.pid != pid || now.Sub(s.made) > sessionAge) {
		s.Close()
	}
	s.used = now
	if s.client == nil {
		c, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		s.client, s.made = c, now
	}
	answers := make([][]byte, len(commands))
	err := s.client.exchange(ctx, pid, commands, func(i int, line []byte) error {
		answers[i] = append(append(answers[i], line...), '\n')
		return nil
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	texts := make([]string, len(commands))
	for i, a := range answers {
		texts[i] = string(a)
	}
	return texts, nil
}

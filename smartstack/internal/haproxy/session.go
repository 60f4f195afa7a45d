package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Session is a connection to the runtime API that is kept from one change to
// the next: to make one, and to hear each time who answers, costs more than a
// command. What it is connected to is the process that was there then, so Close
// it whenever another one may be meant; a process that is to end waits for it.
// One goroutine uses it.
type Session struct {
	Runtime
	conn net.Conn  // nil: none is kept
	pid  int       // who answers on it
	made time.Time // the connection
	used time.Time // for the last time
	text []byte    // kept for the next exchange
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
	if s.conn != nil {
		_ = s.conn.Close() // nothing is under way
		s.conn = nil
	}
}

// Due is when Rest has something to do; zero for never.
func (s *Session) Due() time.Time {
	if s.conn == nil {
		return time.Time{}
	}
	return s.used.Add(sessionIdle)
}

// Rest ends a connection that has not been used lately.
func (s *Session) Rest(now time.Time) {
	if s.conn != nil && !now.Before(s.Due()) {
		s.Close()
	}
}

// Do is Runtime.Do for a process that has a pid. When it fails, nobody knows
// which of the commands were carried out.
func (s *Session) Do(ctx context.Context, pid int, commands ...string) ([]string, error) {
	answers := make([]string, 0, len(commands))
	for len(commands) > 0 {
		n := min(len(commands), batch)
		some, err := s.exchange(ctx, pid, commands[:n])
		if err != nil {
			s.Close()
			return answers, err
		}
		answers = append(answers, some...)
		commands = commands[n:]
	}
	return answers, nil
}

func (s *Session) exchange(ctx context.Context, pid int, commands []string) ([]string, error) {
	now := time.Now()
	if s.conn != nil && (s.pid != pid || now.Sub(s.made) > sessionAge) {
		s.Close()
	}
	s.used = now
	s.text = s.text[:0]
	greeted := s.conn != nil
	if !greeted {
		dialling, cancel := context.WithTimeout(ctx, s.timeout())
		defer cancel()
		conn, err := s.dial(dialling)
		if err != nil {
			return nil, err // says the address
		}
		s.conn, s.made, s.pid = conn, now, pid
		s.text = append(s.text, "prompt;show info;"...)
	}
	for i, c := range commands {
		if i > 0 {
			s.text = append(s.text, ';')
		}
		s.text = append(s.text, c...)
	}
	if bytes.ContainsAny(s.text, "\n\r\x00") {
		return nil, fmt.Errorf("runtime api: command with a line break: %q", s.text)
	}
	s.text = append(s.text, '\n')
	if err := s.conn.SetDeadline(now.Add(s.timeout())); err != nil {
		return nil, err
	}
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // of one that may be closed already
	defer stop()
	if _, err := conn.Write(s.text); err != nil {
		return nil, fmt.Errorf("runtime api: %w", err)
	}
	prompts := len(commands)
	if !greeted {
		prompts += 2
	}
	if err := s.read(prompts); err != nil {
		return nil, fmt.Errorf("runtime api at %s: %w", s.Socket, err)
	}
	text := s.text
	if !greeted {
		_, text, _ = bytes.Cut(text, prompt)
		info, rest, _ := bytes.Cut(text, prompt)
		if err := s.isFrom(pid, parseInfo(string(info))); err != nil {
			return nil, err
		}
		text = rest
	}
	answers := make([]string, len(commands))
	for i := range answers {
		var answer []byte
		answer, text, _ = bytes.Cut(text, prompt)
		answers[i] = string(answer)
	}
	return answers, nil
}

// prompt ends each answer.
var prompt = []byte("\n> ")

// read reads answers into s.text, up to the n-th prompt.
func (s *Session) read(n int) error {
	s.text = s.text[:0]
	for from := 0; ; {
		if len(s.text) == cap(s.text) {
			s.text = append(s.text, make([]byte, max(4096, len(s.text)))...)[:len(s.text)]
		}
		some, err := s.conn.Read(s.text[len(s.text):cap(s.text)])
		s.text = s.text[:len(s.text)+some]
		for at := bytes.Index(s.text[from:], prompt); at >= 0; at = bytes.Index(s.text[from:], prompt) {
			from += at + len(prompt)
			n--
		}
		switch {
		case n == 0 && from == len(s.text):
			return nil
		case n <= 0:
			return errors.New("more answers than commands")
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %d answers are missing", io.ErrUnexpectedEOF, n)
		case err != nil:
			return err
		}
	}
}

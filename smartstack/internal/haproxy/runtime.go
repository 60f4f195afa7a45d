package haproxy

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Runtime is a client of HAProxy's runtime API. Several goroutines may use it.
type Runtime struct {
	Socket string
	// Timeout bounds one exchange; default 5s.
	Timeout time.Duration
	// Idle is how long a connection is kept that nobody uses; 0: not at all. To
	// make one, and to hear each time who answers, costs more than a command.
	Idle time.Duration

	mu     sync.Mutex
	kept   *conn       // nil: none
	expire *time.Timer // of kept
	epoch  int         // of connections that may be kept
}

// keepAge is how long a connection is kept at most: somebody else may have
// reloaded HAProxy, and the old process answers as if nothing were.
const keepAge = 5 * time.Second

// ErrOtherProcess says that another process than the expected one answered:
// after a reload both listen on the socket for a moment.
var ErrOtherProcess = errors.New("another HAProxy process answered")

// batch is how many commands are sent before their answers are read. They fit
// into the socket's buffer, so that neither side waits for the other.
const batch = 100

// Do sends commands to the process pid (0: whichever answers) and returns their
// answers, "" for the empty ones. Answers that say what went wrong are answers
// too: HAProxy does not tell them apart. After an error nobody knows which of the
// commands were carried out.
func (r *Runtime) Do(ctx context.Context, pid int, commands ...string) ([]string, error) {
	answers := make([][]byte, len(commands))
	err := r.each(ctx, pid, commands, func(i int, line []byte) error {
		answers[i] = append(append(answers[i], line...), '\n')
		return nil
	})
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(commands))
	for i, a := range answers {
		texts[i] = string(a)
	}
	return texts, nil
}

// each sends commands to process pid and hands each line of their answers, with the
// number of its command, to line, without keeping them. A line is valid until the
// next one.
func (r *Runtime) each(ctx context.Context, pid int, commands []string, line func(command int, line []byte) error) error {
	c, err := r.take(ctx, pid)
	if err != nil {
		return err
	}
	if err := c.exchange(ctx, pid, commands, line); err != nil {
		c.close()
		return err
	}
	r.keep(c)
	return nil
}

// take returns the connection that is kept, if it leads to process pid, or a new one.
func (r *Runtime) take(ctx context.Context, pid int) (*conn, error) {
	r.mu.Lock()
	c, epoch := r.kept, r.epoch
	r.kept = nil
	r.mu.Unlock()
	if c != nil && c.pid == pid && time.Since(c.made) < keepAge {
		return c, nil
	}
	if c != nil {
		c.close()
	}
	c, err := r.connect(ctx)
	if err == nil {
		c.epoch = epoch
	}
	return c, err
}

// keep keeps a connection for the next commands, or closes it.
func (r *Runtime) keep(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Idle == 0 || r.kept != nil || c.epoch != r.epoch {
		c.close()
		return
	}
	r.kept, c.used = c, time.Now()
	if r.expire == nil {
		r.expire = time.AfterFunc(r.Idle, r.closeExpired)
	} else {
		r.expire.Reset(r.Idle)
	}
}

func (r *Runtime) closeExpired() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept != nil && time.Since(r.kept.used) >= r.Idle {
		r.kept.close()
		r.kept = nil
	}
}

// CloseIdle closes the connection that is kept, and those in use once they are not:
// a process that is to end waits for them.
func (r *Runtime) CloseIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	if r.kept != nil {
		r.kept.close()
		r.kept = nil
	}
}

func (r *Runtime) timeout() time.Duration { return cmp.Or(r.Timeout, 5*time.Second) }

// dial waits while more connect than HAProxy has come to accept, as when the
// machine is overloaded.
func (r *Runtime) dial(ctx context.Context) (net.Conn, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", r.Socket)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// A conn is one connection to the runtime API, in its interactive mode. Each
// command is a line of its own and each answer ends with a prompt: the one form
// that every version answers alike. (Of commands that are joined by ";", versions
// from 3.2 on end only the last answer with a prompt.)
type conn struct {
	runtime *Runtime
	conn    net.Conn
	in      *bufio.Reader
	pid     int    // who answers; 0 before the first answer
	text    []byte // kept for the next exchange
	epoch   int
	made    time.Time
	used    time.Time // for the last time
}

// readers are kept: answers about thousands of servers are megabytes.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1<<16) }}

func (r *Runtime) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err // says the address
	}
	in := readers.Get().(*bufio.Reader)
	in.Reset(c)
	return &conn{runtime: r, conn: c, in: in, made: time.Now()}, nil
}

func (c *conn) close() {
	_ = c.conn.Close() // nothing is under way
	c.in.Reset(nil)
	readers.Put(c.in)
	c.in = nil
}

// exchange sends commands to process pid (0: whichever answers) and tells each
// line of their answers, without its newline, with the number of its command; an
// empty line before a prompt belongs to the prompt. A line is valid until the
// next one. After an error the connection is of no more use.
func (c *conn) exchange(ctx context.Context, pid int, commands []string, line func(command int, line []byte) error) error {
	for at := 0; at < len(commands); at += batch {
		some := commands[at:min(at+batch, len(commands))]
		err := c.once(ctx, pid, some, func(i int, text []byte) error { return line(at+i, text) })
		if err != nil {
			return fmt.Errorf("runtime api at %s: %w", c.runtime.Socket, err)
		}
	}
	return nil
}

func (c *conn) once(ctx context.Context, pid int, commands []string, line func(command int, line []byte) error) error {
	c.text = c.text[:0]
	greeted := c.pid != 0
	if !greeted {
		// Who is it? On a socket that two processes share for a moment, the commands
		// may reach the old one, where they harm nobody.
		c.text = append(c.text, "prompt\nshow info\n"...)
	}
	for _, command := range commands {
		if strings.ContainsAny(command, "\n\r\x00;") {
			return fmt.Errorf("%q is more than one command", command)
		}
		c.text = append(append(c.text, command...), '\n')
	}
	ctx, cancel := context.WithTimeout(ctx, c.runtime.timeout())
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	socket := c.conn
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Now()) }) // of one that may be closed already
	defer stop()
	if _, err := c.conn.Write(c.text); err != nil {
		return err
	}
	if !greeted {
		if err := c.greet(pid); err != nil {
			return err
		}
	}
	for i := range commands {
		if err := c.answer(func(text []byte) error { return line(i, text) }); err != nil {
			return err
		}
	}
	if c.in.Buffered() > 0 {
		return errors.New("more answers than commands")
	}
	return nil
}

// greet reads the answers to prompt and show info.
func (c *conn) greet(pid int) error {
	var info bytes.Buffer
	for range 2 {
		info.Reset()
		err := c.answer(func(text []byte) error {
			info.Write(text)
			return info.WriteByte('\n')
		})
		if err != nil {
			return err
		}
	}
	c.pid = parseInfo(info.String()).PID
	if c.pid == 0 {
		return errors.New("it does not say who answers")
	}
	if pid != 0 && c.pid != pid {
		return fmt.Errorf("%w: %d, want %d", ErrOtherProcess, c.pid, pid)
	}
	return nil
}

// answer reads one answer, up to its prompt: "> " at the beginning of a line, and
// the line break before it.
func (c *conn) answer(line func([]byte) error) error {
	empty := false // a line that is the prompt's, unless another one follows
	for {
		if begin, err := c.in.Peek(2); err != nil {
			return unexpected(err)
		} else if string(begin) == "> " {
			_, err := c.in.Discard(2)
			return err
		}
		text, err := c.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return errors.New("a line is too long")
		}
		if err != nil {
			return unexpected(err)
		}
		if empty {
			if err := line(nil); err != nil {
				return err
			}
		}
		if empty = len(text) == 1; !empty {
			if err := line(text[:len(text)-1]); err != nil {
				return err
			}
		}
	}
}

// unexpected is for an end amid an answer.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Info is what a process tells about itself.
type Info struct {
	PID          int
	Structure    string // StructureHash of the config that it was started with
	UptimeSec    int
	DroppedLogs  int
	Stopping     bool
	MaxConn      int
	StartSeconds int64 // Unix time of its start
}

// Info asks whoever answers.
func (r *Runtime) Info(ctx context.Context) (Info, error) {
	answers, err := r.Do(ctx, 0, "show info")
	if err != nil {
		return Info{}, err
	}
	return parseInfo(answers[0]), nil
}

func parseInfo(text string) Info {
	var in Info
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // what is no number is 0
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "Pid":
			in.PID = number(value)
		case "description":
			if hash, ok := strings.CutPrefix(value, describe); ok {
				in.Structure = hash
			}
		case "Uptime_sec":
			in.UptimeSec = number(value)
		case "DroppedLogs":
			in.DroppedLogs = number(value)
		case "Stopping":
			in.Stopping = value != "0"
		case "Maxconn":
			in.MaxConn = number(value)
		case "Start_time_sec":
			in.StartSeconds = int64(number(value))
		}
	}
	return in
}

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

// Runtime speaks HAProxy's runtime API.
type Runtime struct {
	Socket string
	// Timeout bounds one exchange; default 5s.
	Timeout time.Duration
}

// ErrOtherProcess says that another process than the expected one answered:
// after a reload both listen on the socket for a moment.
var ErrOtherProcess = errors.New("another HAProxy process answered")

// batch is how many commands go in one line; HAProxy's line holds tune.bufsize.
const batch = 40

// Do sends commands to the process pid (0: whichever answers) and returns their
// answers, "" for the empty ones. Answers that say what went wrong are answers
// too: HAProxy does not tell them apart.
func (r Runtime) Do(ctx context.Context, pid int, commands ...string) ([]string, error) {
	var answers []string
	for len(commands) > 0 {
		n := min(len(commands), batch)
		some, err := r.exchange(ctx, pid, commands[:n])
		if err != nil {
			return answers, err
		}
		answers = append(answers, some...)
		commands = commands[n:]
	}
	return answers, nil
}

func (r Runtime) exchange(ctx context.Context, pid int, commands []string) ([]string, error) {
	var out []byte
	err := r.send(ctx, commands, func(conn io.Reader) (err error) {
		out, err = io.ReadAll(conn)
		return err
	})
	if err != nil {
		return nil, err
	}
	answers, err := split(out, len(commands)+1)
	if err != nil {
		return nil, fmt.Errorf("runtime api at %s: %w", r.Socket, err)
	}
	if err := r.isFrom(pid, parseInfo(answers[0])); err != nil {
		return nil, err
	}
	return answers[1:], nil
}

// isFrom tells whether it was process pid that answered.
func (r Runtime) isFrom(pid int, in Info) error {
	if pid != 0 && in.PID != pid {
		return fmt.Errorf("runtime api at %s: %w: %d, want %d", r.Socket, ErrOtherProcess, in.PID, pid)
	}
	return nil
}

// send writes commands on a connection of their own and lets read take the
// answers. The first answer tells who answers: on a socket that two processes
// share the commands may reach the old one, where they harm nobody.
func (r Runtime) send(ctx context.Context, commands []string, read func(io.Reader) error) error {
	line := strings.Join(commands, ";")
	if strings.ContainsAny(line, "\n\r\x00") {
		return fmt.Errorf("runtime api: command with a line break: %q", line)
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return err // says the address
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // of one that is closed already
	defer stop()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "prompt;show info;"+line+";quit\n"); err != nil {
		return fmt.Errorf("runtime api: %w", err)
	}
	if err := read(conn); err != nil {
		return fmt.Errorf("runtime api at %s: %w", r.Socket, err)
	}
	return nil
}

func (r Runtime) timeout() time.Duration { return cmp.Or(r.Timeout, 5*time.Second) }

// dial waits while more connect than HAProxy has come to accept, as when the
// machine is overloaded.
func (r Runtime) dial(ctx context.Context) (net.Conn, error) {
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

// readers are kept: answers about thousands of servers are megabytes.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1<<16) }}

// dump sends commands to process pid and tells each line of their answers with
// the number of its command, without keeping them. A line is true until the next
// one.
func (r Runtime) dump(ctx context.Context, pid int, commands []string, line func(command int, line []byte) error) error {
	return r.send(ctx, commands, func(conn io.Reader) error {
		lines := readers.Get().(*bufio.Reader)
		defer readers.Put(lines)
		lines.Reset(conn)
		// Each prompt, which stands before the first line of an answer, begins the
		// next one: that to prompt, that to show info, and then ours.
		answer := 0
		var info bytes.Buffer
		for {
			text, err := lines.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				return errors.New("a line is too long")
			}
			if rest, ok := bytes.CutPrefix(text, []byte("> ")); ok {
				text = rest
				if answer++; answer == 2 {
					if err := r.isFrom(pid, parseInfo(info.String())); err != nil {
						return err
					}
				}
			}
			if errors.Is(err, io.EOF) && answer == len(commands)+2 {
				return nil
			}
			if err == io.EOF {
				return fmt.Errorf("%d answers to %d commands", max(answer-2, 0), len(commands))
			}
			if err != nil {
				return err
			}
			switch {
			case answer == 1:
				info.Write(text)
			case answer > 1 && len(text) > 1:
				if err := line(answer-2, text[:len(text)-1]); err != nil {
					return err
				}
			}
		}
	})
}

// split takes the answers to n commands apart. With the prompt on, which is
// itself answered by an empty answer, each ends with the prompt on a line of its
// own; without, some would end with an empty line and some would not.
func split(out []byte, n int) ([]string, error) {
	parts := strings.Split(string(out), string(prompt))
	if len(parts) < n+2 { // that to prompt before, and what follows the last prompt
		return nil, fmt.Errorf("%d answers to %d commands", max(len(parts)-2, 0), n)
	}
	return parts[1 : n+1], nil
}

// Info is what a process tells about itself.
type Info struct {
	Version      string
	PID          int
	Structure    string // StructureHash of the config that it was started with
	UptimeSec    int
	CurrConns    int
	DroppedLogs  int
	Stopping     bool
	CumReq       int64
	MaxConn      int
	StartSeconds int64 // Unix time of its start
}

// Info asks whoever answers.
func (r Runtime) Info(ctx context.Context) (Info, error) {
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
		case "Version":
			in.Version = value
		case "Pid":
			in.PID = number(value)
		case "description":
			if hash, ok := strings.CutPrefix(value, describe); ok {
				in.Structure = hash
			}
		case "Uptime_sec":
			in.UptimeSec = number(value)
		case "CurrConns":
			in.CurrConns = number(value)
		case "DroppedLogs":
			in.DroppedLogs = number(value)
		case "Stopping":
			in.Stopping = value != "0"
		case "CumReq":
			in.CumReq = int64(number(value))
		case "Maxconn":
			in.MaxConn = number(value)
		case "Start_time_sec":
			in.StartSeconds = int64(number(value))
		}
	}
	return in
}

// HasDynamicServers tells whether the version, e.g. "2.6.12-1", adds servers at
// run time.
func (in Info) HasDynamicServers() bool {
	major, rest, _ := strings.Cut(in.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return true // a development version
	}
	return a > 2 || a == 2 && b >= 6
}

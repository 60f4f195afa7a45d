package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
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
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	line := strings.Join(commands, ";")
	if strings.ContainsAny(line, "\n\r\x00") {
		return nil, fmt.Errorf("runtime api: command with a line break: %q", line)
	}
	// The first answer tells who answers. On a socket that two processes share
	// the commands may reach the old one, where they harm nobody.
	out, err := r.send(ctx, "prompt;show info;"+line+";quit\n")
	if err != nil {
		return nil, err
	}
	answers, err := split(out, len(commands)+1)
	if err != nil {
		return nil, fmt.Errorf("runtime api at %s: %w", r.Socket, err)
	}
	if got := parseInfo(answers[0]).PID; pid != 0 && got != pid {
		return nil, fmt.Errorf("runtime api at %s: %w: %d, want %d", r.Socket, ErrOtherProcess, got, pid)
	}
	return answers[1:], nil
}

func (r Runtime) send(ctx context.Context, line string) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", r.Socket)
	if err != nil {
		return nil, err // says the address
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // of one that is closed already
	defer stop()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, line); err != nil {
		return nil, fmt.Errorf("runtime api: %w", err)
	}
	out, err := io.ReadAll(conn)
	if err != nil {
		return nil, fmt.Errorf("runtime api at %s: %w", r.Socket, err)
	}
	return out, nil
}

// split takes the answers to n commands apart. With the prompt on, which is
// itself answered by an empty answer, each ends with the prompt on a line of its
// own; without, some would end with an empty line and some would not.
func split(out []byte, n int) ([]string, error) {
	const prompt = "\n> "
	parts := strings.Split(string(out), prompt)
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

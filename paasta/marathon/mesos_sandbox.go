package marathon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Sandboxes are where Mesos keeps the output of its tasks: as files on their
// agents, which hand them out over HTTP until the agent collects them, by
// default after a week.
type sandboxes struct {
	masters []*url.URL
	http    *http.Client

	mu    sync.Mutex // held while state is read, so that many tasks ask once
	state mesosState
	read  time.Time

	seenMu sync.Mutex
	seen   map[string][]mark // of each file
}

// stateFor is how long what the master says is used for other tasks: it is
// large, and a service's tasks are asked for at once.
const stateFor = 5 * time.Second

// Bounds: of one read (Mesos' own), of what is read back for a tail, of a line,
// of the files whose marks are kept, and of one file's marks.
const (
	chunk    = 64 << 10
	maxTail  = 16 << 20
	maxLine  = 1 << 20
	maxSeen  = 4096
	maxMarks = 64
)

// A mark says when a file was seen to be so long.
type mark struct {
	size int64
	at   time.Time
}

// A mesosState is what we need of the master's /state, or of an agent's.
type mesosState struct {
	Slaves []struct {
		ID       string `json:"id"`
		PID      string `json:"pid"` // slave(1)@10.0.0.5:5051
		Hostname string `json:"hostname"`
		Port     int    `json:"port"`
	} `json:"slaves"`
	Frameworks          []mesosFramework `json:"frameworks"`
	CompletedFrameworks []mesosFramework `json:"completed_frameworks"`
}

type mesosFramework struct {
	ID                 string          `json:"id"`
	Name               string          `json:"name"`
	Tasks              []mesosTask     `json:"tasks"`
	UnreachableTasks   []mesosTask     `json:"unreachable_tasks"`
	CompletedTasks     []mesosTask     `json:"completed_tasks"`
	Executors          []mesosExecutor `json:"executors"`           // of an agent's
	CompletedExecutors []mesosExecutor `json:"completed_executors"` // of an agent's
}

type mesosTask struct {
	ID         string `json:"id"`
	ExecutorID string `json:"executor_id"` // "" for Mesos' own executors, whose id is the task's
	SlaveID    string `json:"slave_id"`
	State      string `json:"state"`
	Labels     []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"labels"`
	Statuses []struct {
		State     string  `json:"state"`
		Timestamp float64 `json:"timestamp"` // seconds
	} `json:"statuses"`
}

type mesosExecutor struct {
	ID        string `json:"id"`
	Directory string `json:"directory"`
}

// A place is where a task's output is.
type place struct {
	agent               *url.URL
	framework, executor string
}

func newSandboxes(masters []string, hc *http.Client) (*sandboxes, error) {
	s := &sandboxes{http: hc, seen: map[string][]mark{}}
	for _, raw := range masters {
		u, err := url.Parse(strings.TrimRight(raw, "/"))
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("mesos_masters: %q is no URL of a Mesos master (want http://HOST:5050)", raw)
		}
		s.masters = append(s.masters, u)
	}
	return s, nil
}

// get asks a master or an agent, with the credentials in its address. A master
// that does not lead redirects to the one that does, with which it shares them.
func (s *sandboxes) get(ctx context.Context, u *url.URL, out any) error {
	for range maxRedirects + 1 {
		plain := *u
		plain.User = nil
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.String(), nil)
		if err != nil {
			return err
		}
		r.Header.Set("Accept", "application/json")
		if u.User != nil {
			password, _ := u.User.Password()
			r.SetBasicAuth(u.User.Username(), password)
		}
		response, err := s.http.Do(r)
		if err != nil {
			return err
		}
		if redirects(response) {
			response.Body.Close()
			next, err := response.Location()
			if err != nil || u.User != nil && u.Scheme == "https" && next.Scheme != "https" {
				return fmt.Errorf("GET %s: %w to %q", plain.String(), errRedirect, response.Header.Get("Location"))
			}
			next.User = u.User
			u = next
			continue
		}
		if response.StatusCode/100 != 2 {
			return fmt.Errorf("GET %s: %w", plain.String(), failure(response))
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(out); err != nil {
			return fmt.Errorf("GET %s: read answer: %w", plain.String(), err)
		}
		return nil
	}
	return fmt.Errorf("GET %s: %w: more than %d times", u.Redacted(), errRedirect, maxRedirects)
}

// at is an address below another one.
func at(base *url.URL, below string, query url.Values) *url.URL {
	u := *base
	u.Path = strings.TrimRight(u.Path, "/") + below
	u.RawQuery = query.Encode()
	return &u
}

// leading returns the state of the leading master.
func (s *sandboxes) leading(ctx context.Context) (mesosState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < stateFor {
		return s.state, nil
	}
	var errs []error
	for _, m := range s.masters {
		var state mesosState
		err := s.get(ctx, at(m, "/state", nil), &state)
		if err == nil {
			s.state, s.read = state, time.Now()
			return state, nil
		}
		errs = append(errs, err)
	}
	return mesosState{}, fmt.Errorf("ask the Mesos masters: %w", errors.Join(errs...))
}

// find says where a task's output is. What Mesos does not know (any more) of a
// task may be known to Marathon.
func (c *Client) find(ctx context.Context, task string) (place, error) {
	state, err := c.sandboxes.leading(ctx)
	if err != nil {
		return place{}, err
	}
	p := place{executor: task}
	slave, host := "", ""
	for _, f := range slices.Concat(state.Frameworks, state.CompletedFrameworks) {
		for _, t := range slices.Concat(f.Tasks, f.UnreachableTasks, f.CompletedTasks) {
			if t.ID == task {
				p.framework, slave = f.ID, t.SlaveID
				if t.ExecutorID != "" {
					p.executor = t.ExecutorID
				}
			}
		}
	}
	if slave == "" {
		if slave, host, err = c.agentOf(ctx, task); err != nil {
			return place{}, err
		}
	}
	if p.framework == "" {
		var info struct{ FrameworkID string }
		if err := c.call(ctx, http.MethodGet, "/v2/info", nil, &info); err != nil {
			return place{}, err
		}
		p.framework = info.FrameworkID
	}
	agent := *c.sandboxes.masters[0] // scheme and credentials
	agent.Path = ""
	for _, a := range state.Slaves {
		if a.ID == slave {
			if _, address, ok := strings.Cut(a.PID, "@"); ok {
				agent.Host = address
			} else if a.Hostname != "" && a.Port != 0 {
				agent.Host = net.JoinHostPort(a.Hostname, strconv.Itoa(a.Port))
			} else {
				host = a.Hostname
			}
			p.agent = &agent
		}
	}
	if p.agent == nil || agent.Host == c.sandboxes.masters[0].Host {
		if host == "" {
			return place{}, fmt.Errorf("task %s: %w: its agent %s has gone", task, ErrNotFound, slave)
		}
		agent.Host = net.JoinHostPort(host, "5051")
		p.agent = &agent
	}
	return p, nil
}

// agentOf asks Marathon for the agent of a task.
func (c *Client) agentOf(ctx context.Context, task string) (slave, host string, err error) {
	var answer struct {
		Tasks []struct{ ID, Host, SlaveID string }
	}
	if err := c.call(ctx, http.MethodGet, "/v2/tasks", nil, &answer); err != nil {
		return "", "", err
	}
	for _, t := range answer.Tasks {
		if t.ID == task {
			return t.SlaveID, t.Host, nil
		}
	}
	return "", "", fmt.Errorf("task %s: %w: neither Mesos nor Marathon knows it", task, ErrNotFound)
}

// A sandboxFile is one file as /files/browse lists it.
type sandboxFile struct {
	Path  string  `json:"path"`
	Size  int64   `json:"size"`
	MTime float64 `json:"mtime"` // seconds
}

// browse lists a task's sandbox by file name: at the path that the agent itself
// gives every sandbox, or, before Mesos 1.4, at its directory on the disk.
func (s *sandboxes) browse(ctx context.Context, p place) (map[string]sandboxFile, error) {
	list := func(directory string) (map[string]sandboxFile, error) {
		var files []sandboxFile
		if err := s.get(ctx, at(p.agent, "/files/browse", url.Values{"path": {directory}}), &files); err != nil {
			return nil, err
		}
		byName := map[string]sandboxFile{}
		for _, f := range files {
			byName[path.Base(f.Path)] = f
		}
		return byName, nil
	}
	files, err := list("/frameworks/" + p.framework + "/executors/" + p.executor + "/runs/latest")
	if err == nil || !errors.Is(err, ErrNotFound) {
		return files, err
	}
	var state mesosState
	if err := s.get(ctx, at(p.agent, "/state", nil), &state); err != nil {
		return nil, err
	}
	for _, f := range slices.Concat(state.Frameworks, state.CompletedFrameworks) {
		for _, e := range slices.Concat(f.Executors, f.CompletedExecutors) {
			if e.ID == p.executor && f.ID == p.framework && e.Directory != "" {
				return list(e.Directory)
			}
		}
	}
	return nil, err
}

// readAt reads a piece of a file.
func (s *sandboxes) readAt(ctx context.Context, agent *url.URL, file string, offset, length int64) ([]byte, error) {
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	query := url.Values{"path": {file}, "offset": {strconv.FormatInt(offset, 10)}, "length": {strconv.FormatInt(length, 10)}}
	if err := s.get(ctx, at(agent, "/files/read", query), &answer); err != nil {
		return nil, err
	}
	data := unquote(answer.Data)
	return data[:min(int64(len(data)), length)], nil
}

// unquote returns the bytes of a JSON string, also those that are no UTF-8:
// Mesos cuts files anywhere, and offsets count bytes.
func unquote(text []byte) []byte {
	text = bytes.TrimPrefix(bytes.TrimSuffix(text, []byte(`"`)), []byte(`"`))
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		switch c := text[i]; c {
		case 'b', 'f', 'n', 'r', 't':
			out = append(out, "\b\f\n\r\t"[strings.IndexByte("bfnrt", c)])
		case 'u':
			end := i + 5
			if end+6 <= len(text) && text[end] == '\\' && text[end+1] == 'u' && bytes.ContainsAny(text[i+1:i+2], "dD") {
				end += 6 // perhaps a surrogate pair
			}
			var s string
			if end > len(text) || json.Unmarshal([]byte(`"`+string(text[i-1:end])+`"`), &s) != nil {
				continue
			}
			out = append(out, s...)
			i = end - 1
		default: // quote, backslash, slash
			out = append(out, c)
		}
	}
	return out
}

// observe notes that a file is so long, and returns its marks. Mesos does not
// know when a line was written, only when the file was last; what is added
// while we look is of that moment.
func (s *sandboxes) observe(key string, size int64, modified, now time.Time) []mark {
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	marks := s.seen[key]
	switch n := len(marks); {
	case n == 0 || size < marks[n-1].size: // new, or begun anew
		if len(s.seen) >= maxSeen {
			clear(s.seen)
		}
		marks = []mark{{size, modified}}
	case size > marks[n-1].size:
		if !now.After(marks[n-1].at) {
			now = marks[n-1].at.Add(1)
		}
		marks = append(slices.Clip(marks), mark{size, now})
		marks = marks[max(0, len(marks)-maxMarks):]
	}
	s.seen[key] = marks
	return marks
}

// timeOf is when the byte before offset was written, as far as marks know.
func timeOf(marks []mark, offset int64) time.Time {
	for _, m := range marks {
		if offset <= m.size {
			return m.at
		}
	}
	return marks[len(marks)-1].at
}

// A stream reads one file of a sandbox, line by line.
type stream struct {
	name   string // stdout, stderr
	offset int64  // up to where it was read
	rest   []byte // a line that has not ended
	begun  bool
}

// advance sends the lines that a file has more than were read; at first its last
// tail lines. With last, one that has not ended yet too.
func (st *stream) advance(ctx context.Context, s *sandboxes, agent *url.URL, f sandboxFile, tail int, last bool, each func(stream string, at time.Time, text string) error) error {
	modified := time.Unix(0, int64(f.MTime*float64(time.Second)))
	marks := s.observe(agent.Host+f.Path, f.Size, modified, time.Now())
	if f.Size < st.offset {
		st.offset, st.rest = 0, nil // begun anew: rotated
	}
	if !st.begun {
		from, err := tailOffset(ctx, s, agent, f, tail)
		if err != nil {
			return err
		}
		st.offset, st.begun = from, true
	}
	send := func(line []byte, end int64) error {
		return each(st.name, timeOf(marks, end), strings.ToValidUTF8(strings.TrimSuffix(string(line), "\r"), string(utf8.RuneError)))
	}
	for st.offset < f.Size {
		data, err := s.readAt(ctx, agent, f.Path, st.offset, min(chunk, f.Size-st.offset))
		if err != nil {
			return err
		}
		if len(data) == 0 {
			break // shorter than it was listed
		}
		for {
			line, more, ok := bytes.Cut(data, []byte("\n"))
			st.offset += int64(len(line))
			st.rest = append(st.rest, line...)
			if ok {
				st.offset++
			}
			if ok || len(st.rest) > maxLine {
				if err := send(st.rest, st.offset); err != nil {
					return err
				}
				st.rest = st.rest[:0]
			}
			if !ok {
				break
			}
			data = more
		}
	}
	if last && len(st.rest) > 0 {
		line := st.rest
		st.rest = nil
		return send(line, st.offset)
	}
	return nil
}

// tailOffset is where the last lines of a file begin.
func tailOffset(ctx context.Context, s *sandboxes, agent *url.URL, f sandboxFile, lines int) (int64, error) {
	end, found := f.Size, 0
	for end > 0 && f.Size-end < maxTail {
		begin := max(0, end-chunk)
		data, err := s.readAt(ctx, agent, f.Path, begin, end-begin)
		if err != nil {
			return 0, err
		}
		for i, c := range slices.Backward(data) {
			if c != '\n' || begin+int64(i)+1 == f.Size {
				continue // the last line's own end
			}
			if found++; found == lines {
				return begin + int64(i) + 1, nil
			}
		}
		end = begin
	}
	return end, nil
}

// output is TaskLogs on Mesos.
func (c *Client) output(ctx context.Context, task string, tail int, follow bool, each func(stream string, at time.Time, text string) error) error {
	const every = time.Second // while following
	const lives = 10          // looks between two questions whether the task is still there
	p, err := c.find(ctx, task)
	if err != nil {
		return err
	}
	streams := []*stream{{name: "stdout"}, {name: "stderr"}}
	for look, last := 1, !follow; ; look++ {
		files, err := c.sandboxes.browse(ctx, p)
		if err != nil {
			return err
		}
		for _, st := range streams {
			f, ok := files[st.name]
			if !ok {
				continue
			}
			if err := st.advance(ctx, c.sandboxes, p.agent, f, tail, last, each); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		if look%lives == 0 {
			if _, _, err := c.agentOf(ctx, task); errors.Is(err, ErrNotFound) {
				last = true // once more, to the end
				continue
			}
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package haproxy

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Row is one line of HAProxy's CSV statistics.
type Row struct {
	Proxy, Server string // Server is FRONTEND or BACKEND for those
	ProxyID, ID   int
	Status        string // UP, DOWN, MAINT, DRAIN, no check, …
	Weight        int
	Sessions      int // now
	Queue         int
	CheckStatus   string // L7OK, L4CON, …
	CheckCode     string
	CheckTook     string // milliseconds
	LastCheck     string // text of the last result
}

// Up tells whether the server takes new requests.
func (r Row) Up() bool {
	return (strings.HasPrefix(r.Status, "UP") || r.Status == "no check") && r.Weight > 0
}

// Check says how the last check went, e.g. "L7OK/200 in 3ms".
func (r Row) Check() string {
	if r.CheckStatus == "" {
		return ""
	}
	s := strings.TrimPrefix(r.CheckStatus, "* ")
	if r.CheckCode != "" {
		s += "/" + r.CheckCode
	}
	if r.CheckTook != "" {
		s += " in " + r.CheckTook + "ms"
	}
	if r.LastCheck != "" {
		s += ": " + r.LastCheck
	}
	return s
}

// EachRow hands each the rows of the proxies with the given ids, of all without any.
func (r *Runtime) EachRow(ctx context.Context, pid int, each func(Row), proxies ...int) error {
	commands := []string{"show stat"}
	if len(proxies) > 0 {
		commands = commands[:0]
		for _, id := range proxies {
			commands = append(commands, fmt.Sprintf("show stat %d 6 -1", id)) // 6 = backends and servers
		}
	}
	return r.stats(ctx, pid, each, commands)
}

// BackendIDs returns the numbers of all backends, which is much less than all
// rows.
func (r *Runtime) BackendIDs(ctx context.Context, pid int) (map[string]int, error) {
	ids := map[string]int{}
	err := r.stats(ctx, pid, func(row Row) { ids[row.Proxy] = row.ProxyID }, []string{"show stat -1 2 -1"})
	return ids, err
}

func (r *Runtime) stats(ctx context.Context, pid int, each func(Row), commands []string) error {
	tables := make([]table, len(commands))
	return r.each(ctx, pid, commands, func(command int, line []byte) error {
		t := &tables[command]
		if t.columns == nil {
			return t.head(line)
		}
		if row, ok := t.row(line); ok {
			each(row)
		}
		return nil
	})
}

// A table reads CSV statistics by the names in their header, as HAProxy of any
// version writes them.
type table struct {
	columns []string
	texts   map[string]string // the same few again and again
}

func (t *table) head(line []byte) error {
	t.texts = map[string]string{}
	t.columns = strings.Split(strings.TrimPrefix(string(line), "# "), ",")
	for _, name := range []string{"pxname", "svname", "status"} {
		if !slices.Contains(t.columns, name) {
			t.columns = nil
			return fmt.Errorf("statistics: no column %q", name)
		}
	}
	return nil
}

// row reads one line; ok is false for one that is too short.
func (t *table) row(line []byte) (row Row, ok bool) {
	for _, name := range t.columns {
		if len(line) == 0 {
			break
		}
		var field []byte
		field, line = cutField(line)
		if len(field) == 0 {
			continue
		}
		number := func() int64 { n, _ := strconv.ParseInt(string(field), 10, 64); return n }
		switch name {
		case "pxname":
			row.Proxy = t.text(field)
		case "svname":
			row.Server = string(field)
		case "status":
			row.Status = t.text(field)
		case "iid":
			row.ProxyID = int(number())
		case "sid":
			row.ID = int(number())
		case "weight":
			row.Weight = int(number())
		case "scur":
			row.Sessions = int(number())
		case "qcur":
			row.Queue = int(number())
		case "check_status":
			row.CheckStatus = t.text(field)
		case "check_code":
			row.CheckCode = t.text(field)
		case "check_duration":
			row.CheckTook = t.text(field)
		case "last_chk":
			row.LastCheck = t.text(field)
		}
	}
	return row, row.Proxy != "" && row.Server != ""
}

// text returns b as a string that is shared with other rows.
func (t *table) text(b []byte) string {
	s, ok := t.texts[string(b)]
	if !ok {
		s = string(b)
		t.texts[s] = s
	}
	return s
}

// cutField takes the first field of a line of CSV, which may be quoted.
func cutField(line []byte) (field, rest []byte) {
	if line[0] != '"' {
		field, rest, _ = bytes.Cut(line, []byte(","))
		return field, rest
	}
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] != '"':
		case i+1 < len(line) && line[i+1] == '"':
			i++ // a quote in the text
		default:
			_, rest, _ = bytes.Cut(line[i:], []byte(","))
			return bytes.ReplaceAll(line[1:i], []byte(`""`), []byte(`"`)), rest
		}
	}
	return line, nil // it does not end
}

// A ServerState is one line of "show servers state".
type ServerState struct {
	Backend   string
	BackendID int
	Name      string
	Addr      netip.AddrPort // invalid if HAProxy has none
	ID        int
	Weight    int
	Down      bool // by HAProxy's checks
	Maint     bool // forced into maintenance
	Drain     bool

	line string // of one that is down
}

// Server returns the server that the state is of, as far as it tells.
func (s ServerState) Server() Server {
	server := Server{Name: s.Name, Addr: s.Addr, ID: s.ID, Weight: s.Weight, Leaving: s.Maint}
	if s.Drain {
		server.Weight = 0
	}
	return server
}

// ServerStates reads the state of every server, of some backends if they are
// given.
func (r *Runtime) ServerStates(ctx context.Context, pid int, backends ...string) ([]ServerState, error) {
	commands := []string{"show servers state"}
	if len(backends) > 0 {
		commands = commands[:0]
		for _, b := range backends {
			commands = append(commands, "show servers state "+word(b))
		}
	}
	var states []ServerState
	for some := range slices.Chunk(commands, batch) {
		versions := make([]string, len(some))
		err := r.each(ctx, pid, some, func(command int, line []byte) error {
			switch {
			case versions[command] == "":
				if versions[command] = string(line); versions[command] != stateVersion {
					return fmt.Errorf("%s: version %q, want %s", some[command], line, stateVersion)
				}
			case line[0] != '#':
				if s, ok := parseServerState(string(line)); ok {
					states = append(states, s)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return states, nil
}

// Columns of version 1, the only one there is.
const (
	colBackendID = iota
	colBackend
	colID
	colName
	colAddr
	colOp
	colAdmin
	colUserWeight
	colInitialWeight
	colPort        = 18
	serverStateLen = 19
)

const stateVersion = "1"

func parseServerState(line string) (s ServerState, ok bool) {
	var f [serverStateLen]string
	n := 0
	for word := range strings.FieldsSeq(line) {
		f[n] = word
		if n++; n == serverStateLen {
			break
		}
	}
	if n < serverStateLen {
		return s, false
	}
	number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	s = ServerState{
		Backend: f[colBackend], BackendID: number(colBackendID), Name: f[colName], ID: number(colID), Weight: number(colUserWeight),
		Down: f[colOp] == "0", Maint: number(colAdmin)&0x1 != 0, Drain: number(colAdmin)&0x8 != 0,
	}
	if s.Down {
		s.line = line
	}
	if ip, err := netip.ParseAddr(f[colAddr]); err == nil {
		s.Addr = netip.AddrPortFrom(ip, uint16(number(colPort)))
	}
	return s, true
}

// CarryOver returns a server-state file that holds nothing but health: the
// servers that were down, so that a new process does not send them traffic.
// Everything else, weight and admin state, comes from the registry.
func CarryOver(states []ServerState) []byte {
	var b strings.Builder
	b.WriteString(stateVersion + "\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n")
	for _, s := range states {
		if !s.Down || s.Maint {
			continue
		}
		f := strings.Fields(s.line)
		f[colAdmin] = "0"
		f[colUserWeight] = f[colInitialWeight]
		b.WriteString(strings.Join(f, " "))
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

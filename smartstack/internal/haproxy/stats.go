package haproxy

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Row is one line of HAProxy's CSV statistics.
type Row struct {
	Proxy, Server string // Server is FRONTEND or BACKEND for those
	ProxyID, ID   int
	Status        string // UP, DOWN, MAINT, DRAIN, no check, …
	Weight        int
	Sessions      int // now
	Queue         int
	Total         int64 // sessions ever
	LastChange    time.Duration
	CheckStatus   string // L7OK, L4CON, …
	CheckCode     string
	CheckTook     string // milliseconds
	LastCheck     string // text of the last result
	Errors5xx     int64
	ConnErrors    int64
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

// Stats reads the rows of the proxies with the given ids, of all without any.
func (r Runtime) Stats(ctx context.Context, pid int, proxies ...int) ([]Row, error) {
	commands := []string{"show stat"}
	if len(proxies) > 0 {
		commands = commands[:0]
		for _, id := range proxies {
			commands = append(commands, fmt.Sprintf("show stat %d 6 -1", id)) // 6 = backends and servers
		}
	}
	answers, err := r.Do(ctx, pid, commands...)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, a := range answers {
		some, err := ParseStats(strings.NewReader(a))
		if err != nil {
			return nil, fmt.Errorf("runtime api at %s: %w", r.Socket, err)
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

// ParseStats reads CSV statistics by the names in their header, as HAProxy of
// any version writes them. Rows that are too short are left out.
func ParseStats(in io.Reader) ([]Row, error) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	r.LazyQuotes = true
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	at := map[string]int{}
	for i, name := range head {
		at[strings.TrimPrefix(name, "# ")] = i
	}
	for _, name := range []string{"pxname", "svname", "status"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("statistics: no column %q", name)
		}
	}
	var rows []Row
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("statistics: %w", err)
		}
		text := func(name string) string {
			if i, ok := at[name]; ok && i < len(rec) {
				return strings.Clone(rec[i])
			}
			return ""
		}
		number := func(name string) int64 { n, _ := strconv.ParseInt(text(name), 10, 64); return n }
		row := Row{
			Proxy: text("pxname"), Server: text("svname"), Status: text("status"),
			ProxyID: int(number("iid")), ID: int(number("sid")), Weight: int(number("weight")), Sessions: int(number("scur")),
			Queue: int(number("qcur")), Total: number("stot"), LastChange: time.Duration(number("lastchg")) * time.Second,
			CheckStatus: text("check_status"), CheckCode: text("check_code"), CheckTook: text("check_duration"), LastCheck: text("last_chk"),
			Errors5xx: number("hrsp_5xx"), ConnErrors: number("econ"),
		}
		if row.Proxy != "" && row.Server != "" {
			rows = append(rows, row)
		}
	}
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

	fields []string
}

// ServerStates reads the state of every server, of backend if it is not "".
func (r Runtime) ServerStates(ctx context.Context, pid int, backend string) ([]ServerState, error) {
	command := "show servers state"
	if backend != "" {
		command += " " + word(backend)
	}
	answers, err := r.Do(ctx, pid, command)
	if err != nil {
		return nil, err
	}
	return parseServerStates(answers[0])
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

func parseServerStates(text string) ([]ServerState, error) {
	version, rest, _ := strings.Cut(text, "\n")
	if version != stateVersion {
		return nil, fmt.Errorf("server states of version %q, want %s", version, stateVersion)
	}
	var states []ServerState
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < serverStateLen {
			continue
		}
		number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
		s := ServerState{
			Backend: f[colBackend], BackendID: number(colBackendID), Name: f[colName], ID: number(colID), Weight: number(colUserWeight),
			Down: f[colOp] == "0", Maint: number(colAdmin)&0x1 != 0, Drain: number(colAdmin)&0x8 != 0, fields: f,
		}
		if ip, err := netip.ParseAddr(f[colAddr]); err == nil {
			s.Addr = netip.AddrPortFrom(ip, uint16(number(colPort)))
		}
		states = append(states, s)
	}
	return states, nil
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
		f := append([]string(nil), s.fields...)
		f[colAdmin] = "0"
		f[colUserWeight] = f[colInitialWeight]
		b.WriteString(strings.Join(f, " "))
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

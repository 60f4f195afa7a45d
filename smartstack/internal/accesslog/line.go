package accesslog

import (
	"bytes"
	"strconv"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// Formats of HAProxy's log, for its log-format keyword. What a client can choose
// comes last, so that nothing that it sends can be taken for something else.
const (
	// FormatHTTP needs the variables txn.paasta_at (haproxy.LogStart) and
	// txn.caller.
	FormatHTTP = `"P1 %f %b %s %ST %ts %Ta %[date(0,us),sub(txn.paasta_at)] %[var(txn.caller)] %HM %HP"`
	FormatTCP  = `"P2 %f %b %s %ts %Tt"`
	// MaxLength is how long a line gets at most; HAProxy cuts it off there.
	MaxLength = 2048
)

var frontendSuffix = []byte(haproxy.FrontendSuffix)

// A Line is one line of the log. Its texts are parts of what was parsed.
type Line struct {
	HTTP              bool
	Frontend, Backend []byte // Frontend is the registration, without what ends the frontend's name
	Server            []byte // "<NOSRV>" when none was chosen
	Status            int    // 0 when there was no answer, and with TCP
	EndedBy           byte   // '-' as it should; otherwise who ended it too soon, as HAProxy says: C client, S server, P proxy, …
	Micros            uint64 // how long it took
	Caller            []byte // "0" when unknown
	Method, Path      []byte
}

// Parse takes a line apart. ok is false when it is none of ours: HAProxy also
// says other things there, such as that a server is down.
func Parse(text []byte, l *Line) (ok bool) {
	*l = Line{}
	text = bytes.TrimSuffix(text, []byte("\n"))
	kind, text := field(text)
	switch string(kind) {
	case "P1":
		l.HTTP = true
	case "P2":
	default:
		return false
	}
	l.Frontend, text = field(text)
	l.Frontend = bytes.TrimSuffix(l.Frontend, []byte("~")) // of TLS
	l.Frontend = bytes.TrimSuffix(l.Frontend, frontendSuffix)
	l.Backend, text = field(text)
	l.Server, text = field(text)
	if l.HTTP {
		var status []byte
		status, text = field(text)
		l.Status, ok = number(status)
		if !ok || l.Status > 999 {
			return false
		}
		if l.Status < 100 {
			l.Status = 0
		}
	}
	ended, text := field(text)
	if len(ended) < 2 || len(l.Frontend) == 0 || len(l.Backend) == 0 || len(l.Server) == 0 {
		return false
	}
	l.EndedBy = ended[0]
	millis, text := field(text)
	n, ok := number(millis)
	if !ok {
		return false
	}
	l.Micros = uint64(max(n, 0)) * 1000
	if !l.HTTP {
		return len(text) == 0
	}
	micros, text := field(text)
	if n, ok := number(micros); ok && n >= 0 {
		l.Micros = uint64(n) // "-" before the request was read; below 0 when somebody has set the clock
	}
	l.Caller, text = field(text)
	l.Method, l.Path = field(text)
	return len(l.Caller) > 0 && len(l.Method) > 0
}

// field cuts off what comes before the first space.
func field(text []byte) (first, rest []byte) {
	if before, after, ok := bytes.Cut(text, []byte{' '}); ok {
		return before, after
	}
	return text, nil
}

// number reads a decimal number that fits; HAProxy writes -1 where it has none.
func number(text []byte) (int, bool) {
	if len(text) == 0 || len(text) > 15 {
		return 0, false
	}
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	if negative {
		n = -n
	}
	return n, len(text) > 0
}

// Classes of how requests end.
const (
	ClassNone  = "none"  // the client went away before there was an answer
	ClassOK    = "ok"    // of TCP: ended as it should
	ClassError = "error" // no answer and not the client's doing; of TCP: ended by the server, the proxy or a timeout
)

// class names how a request ended: "2xx" and so on by its status, or one of the
// classes above.
func (l *Line) class() string {
	switch {
	case l.Status >= 100 && l.Status < 600:
		return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[l.Status/100-1]
	case l.EndedBy == 'C' || l.EndedBy == 'c':
		return ClassNone
	case l.HTTP || l.EndedBy != '-':
		return ClassError
	}
	return ClassOK
}

// String is the line as HAProxy would write it.
func (l *Line) String() string {
	if !l.HTTP {
		return "P2 " + string(l.Frontend) + haproxy.FrontendSuffix + " " + string(l.Backend) + " " + string(l.Server) + " " + string([]byte{l.EndedBy}) + "- " + strconv.FormatUint(l.Micros/1000, 10)
	}
	micros := strconv.FormatUint(l.Micros, 10)
	return "P1 " + string(l.Frontend) + haproxy.FrontendSuffix + " " + string(l.Backend) + " " + string(l.Server) + " " + strconv.Itoa(l.Status) + " " + string([]byte{l.EndedBy}) + "- 0 " +
		micros + " " + string(l.Caller) + " " + string(l.Method) + " " + string(l.Path)
}

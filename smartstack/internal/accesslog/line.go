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
	var f [11][]byte
	rest, n := bytes.TrimSuffix(text, []byte("\n")), 0
	for more := true; more; n++ {
		if n == len(f)-1 {
			f[n], more = rest, false // a path may have spaces
		} else {
			f[n], rest, more = bytes.Cut(rest, []byte(" "))
		}
	}
	*l = Line{HTTP: string(f[0]) == "P1", Backend: f[2], Server: f[3]}
	l.Frontend = bytes.TrimSuffix(bytes.TrimSuffix(f[1], []byte("~")), frontendSuffix) // ~: of TLS
	ended, millis := f[4], f[5]
	if l.HTTP {
		ended, millis = f[5], f[6]
		if l.Status, ok = number(f[4]); !ok || l.Status > 999 {
			return false
		}
		if l.Status < 100 {
			l.Status = 0
		}
		l.Caller, l.Method, l.Path = f[8], f[9], f[10]
	} else if string(f[0]) != "P2" || n != 6 {
		return false
	}
	ms, ok := number(millis)
	if !ok || len(ended) < 2 || len(l.Frontend) == 0 || len(l.Backend) == 0 || len(l.Server) == 0 {
		return false
	}
	l.EndedBy = ended[0]
	l.Micros = uint64(max(ms, 0)) * 1000
	if us, ok := number(f[7]); l.HTTP && ok && us >= 0 {
		l.Micros = uint64(us) // "-" before the request was read; below 0 when somebody has set the clock
	}
	return !l.HTTP || len(l.Caller) > 0 && len(l.Method) > 0
}

// number reads a number that HAProxy may have written, which is -1 where it has
// none.
func number(text []byte) (int, bool) {
	n, err := strconv.ParseInt(string(text), 10, 50) // a thousand times as much fits as well
	return int(n), err == nil
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

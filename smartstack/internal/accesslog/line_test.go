package accesslog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, want, class string // want "" for none of ours
	}{
		{"P1 web.main:frontend web.main a_10.0.0.1:31000 200 -- 0 1126 shop.main GET /users/12\n", "P1 web.main:frontend web.main a_10.0.0.1:31000 200 -- 0 1126 shop.main GET /users/12", "2xx"},
		{"P1 web.main:frontend~ web.main.region <NOSRV> 503 SC 12 - 0 GET /", "P1 web.main:frontend web.main.region <NOSRV> 503 S- 0 12000 0 GET /", "5xx"},
		{"P1 web.main web.main <NOSRV> -1 CR 7 - - <BADREQ> ", "P1 web.main:frontend web.main <NOSRV> 0 C- 0 7000 - <BADREQ> ", "none"},
		{"P1 web.main web.main a 0 sH 7 7000 0 GET /", "P1 web.main:frontend web.main a 0 s- 0 7000 0 GET /", "error"},
		{"P1 web.main web.main a 200 -- 3 -5 0 GET /a b c", "P1 web.main:frontend web.main a 200 -- 0 3000 0 GET /a b c", "2xx"},
		{"P2 db.main:frontend db.main a_10.0.0.1:5432 -- 2500\n", "P2 db.main:frontend db.main a_10.0.0.1:5432 -- 2500", "ok"},
		{"P2 db.main db.main <NOSRV> SC 0", "P2 db.main:frontend db.main <NOSRV> S- 0", "error"},
		{"P2 db.main db.main a CD 9", "P2 db.main:frontend db.main a C- 9", "none"},
		{"Server web.main/a is DOWN, reason: Layer4 timeout.", "", ""},
		{"P1 web.main web.main a 2x0 -- 0 1 0 GET /", "", ""},
		{"P1 web.main web.main a 200", "", ""},
		{"P1 web.main web.main a 200 -- 99999999999999999999 1 0 GET /", "", ""},
		{"P2 a b c -- 1 more", "", ""},
		{"P1      ", "", ""},
		{"", "", ""},
	} {
		var l Line
		ok := Parse([]byte(c.text), &l)
		if ok != (c.want != "") {
			t.Errorf("%q: %v", c.text, ok)
			continue
		}
		if !ok {
			continue
		}
		if got := l.String(); got != c.want || l.class() != c.class {
			t.Errorf("%q: %q of class %q, want %q of %q", c.text, got, l.class(), c.want, c.class)
		}
	}
}

// Whatever comes, nothing breaks; what is a line is one again when it is written
// and read; and what is counted is bounded text.
func FuzzParse(f *testing.F) {
	f.Add([]byte("P1 web.main web.main a_10.0.0.1:31000 200 -- 0 1126 shop.main GET /users/12\n"))
	f.Add([]byte("P2 db.main db.main a_10.0.0.1:5432 -- 2500\n"))
	f.Add([]byte("P1 web.main~ web.main <NOSRV> -1 CR -1 - - <BADREQ> \x00\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		kept := bytes.Clone(text)
		var l Line
		if !Parse(text, &l) {
			return
		}
		if !bytes.Equal(kept, text) {
			t.Fatalf("changed %q to %q", kept, text)
		}
		switch c := l.class(); c {
		case "1xx", "2xx", "3xx", "4xx", "5xx", ClassNone, ClassOK, ClassError:
		default:
			t.Errorf("%q: class %q", text, c)
		}
		again := l.String()
		var m Line
		if !Parse([]byte(again), &m) || m.String() != again {
			t.Errorf("%q is %q, and that %q", text, again, m.String())
		}
		c := &Counter{Lookup: anything}
		c.Take(text)
		for _, s := range c.all() {
			for k := range s.series {
				if strings.ToValidUTF8(k.caller.name, "") != k.caller.name {
					t.Errorf("%q: caller %q", text, k.caller.name)
				}
			}
		}
		if metrics := gather(t, c); len(metrics) == 0 { // and Prometheus takes them
			t.Errorf("%q: no metrics", text)
		}
	})
}

// String is the line as HAProxy would write it.
func (l *Line) String() string {
	if !l.HTTP {
		return fmt.Sprintf("P2 %s%s %s %s %s- %d", l.Frontend, haproxy.FrontendSuffix, l.Backend, l.Server, []byte{l.EndedBy}, l.Micros/1000)
	}
	return fmt.Sprintf("P1 %s%s %s %s %d %s- 0 %d %s %s %s", l.Frontend, haproxy.FrontendSuffix, l.Backend, l.Server, l.Status, []byte{l.EndedBy}, l.Micros, l.Caller, l.Method, l.Path)
}

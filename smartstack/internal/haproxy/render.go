package haproxy

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Write writes the text of haproxy.cfg. Equal configs give equal text, in whatever
// order their sections and servers come. A large one is some megabytes, and its file
// follows every change.
func Write(b *bufio.Writer, g Global, custom string, sections []*Section) {
	sections = slices.Clone(sections)
	slices.SortFunc(sections, func(a, b *Section) int { return strings.Compare(a.Service.Name, b.Service.Name) })
	b.WriteString("# Written by paasta smartstack. What is changed here is lost; an operator's own sections go into custom_config.\n")
	delays := slices.ContainsFunc(sections, func(s *Section) bool { return s.Service.Mode == ModeHTTP && s.Service.Fault.Delay > 0 })
	hash := StructureHash(g, custom, sections)
	g.MaxConn, _ = FitMaxConn(g, custom, sections) // no structure: it follows the servers
	global(b, g, hash, delays)
	for _, s := range sections {
		s.writeTo(b, g.Version)
	}
	if custom != "" {
		b.WriteString("\n# from custom_config\n")
		b.WriteString(custom)
		if !strings.HasSuffix(custom, "\n") {
			b.WriteByte('\n')
		}
	}
}

// StructureHash names all that only a reload changes. A running HAProxy tells
// it (Info.Structure), so that an agent that starts knows whether the one it
// adopts is up to date.
func StructureHash(g Global, custom string, sections []*Section) string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v\n%d %s\n", g, len(custom), custom)
	sections = slices.Clone(sections)
	slices.SortFunc(sections, func(a, b *Section) int { return strings.Compare(a.Service.Name, b.Service.Name) })
	for _, s := range sections {
		h.Write(s.Structure[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func global(b *bufio.Writer, g Global, hash string, delays bool) {
	line := func(format string, args ...any) { fmt.Fprintf(b, "\t"+format+"\n", args...) }
	b.WriteString("\nglobal\n")
	line("description %s", quote(describe+hash))
	line("stats socket %s mode 600 level admin expose-fd listeners", quote(g.Socket))
	line("stats timeout 1m")
	line("maxconn %d", g.MaxConn)
	line("hard-stop-after %s", ms(g.HardStop))
	line("spread-checks 50")
	line("tune.bufsize 32768")
	if g.StateFile != "" {
		line("server-state-file %s", quote(g.StateFile))
	}
	if g.Root { // said, because HAProxy advises against it where it is not
		line("chroot /")
		line("uid 0")
	}
	if delays {
		if g.Version.Has(luaBooleans) {
			line("tune.lua.bool-sample-conversion normal")
		}
		line("lua-load %s", quote(g.DelayScript))
	}
	if g.LogSocket != "" {
		line("log %s len %d format raw local0 info", quote(g.LogSocket), logLength)
	}
	b.WriteString("\ndefaults\n")
	line("mode http")
	line("timeout connect 200ms")
	line("timeout client 1s")
	line("timeout server 1s")
	line("timeout queue 1s")
	line("timeout tarpit 60s")
	line("retries 1")
	line("option redispatch 1")
	line("option dontlognull")
	if g.LogSocket != "" {
		line("log global")
	}
	if g.StateFile != "" {
		line("load-server-state-from-file global")
	}
	if g.StatsListen.IsValid() {
		b.WriteString("\nlisten stats\n")
		line("bind %s", listen(g.StatsListen))
		line("no log")
		// A web page whose name was made to resolve to this host would otherwise read
		// it with the browser of somebody who may.
		line("acl ours req.hdr(Host) -m reg -i %s", quote(hostsPattern(g.Names)))
		line("acl ours req.hdr_cnt(Host) eq 0")
		line("http-request deny deny_status 403 unless ours")
		line("stats enable")
		line("stats uri /")
		line("stats refresh 1m")
		line("stats show-node")
	}
}

// hostsPattern matches the Host of requests that are meant for this host.
func hostsPattern(names []string) string {
	ours := []string{"localhost", `[0-9.]+`, `\[[0-9a-f:.]+\]`}
	for _, name := range names {
		if isName(name) {
			ours = append(ours, regexp.QuoteMeta(name))
		}
	}
	return `^(` + strings.Join(ours, "|") + `)\.?(:[0-9]+)?$`
}

// DelayScript delays requests; Global.DelayScript is a file that holds it.
const DelayScript = `-- Written by paasta smartstack: chaos and fixed_delay for HTTP.
core.register_action("paasta_delay", { "http-req" }, function(txn, ms) core.msleep(tonumber(ms)) end, 1)
`

const describe = "paasta smartstack "

// logLength is how long a line of the log gets at most.
const logLength = 2048

// LogStart is the variable that holds when a request had come, in microseconds,
// where a LogFormat is set: it may say how long ago that was.
const LogStart = "txn.paasta_at"

// writer writes the text of a service.
type writer struct {
	text    []byte
	version Version
}

func (w *writer) line(words ...string) {
	for i, word := range words {
		sep := byte(' ')
		if i == 0 {
			sep = '\t'
		}
		w.text = append(append(w.text, sep), word...)
	}
	w.text = append(w.text, '\n')
}

func (w *writer) head(kind, name string) {
	w.text = append(w.text, "\n"+kind+" "+word(name)+"\n"...)
}

func (w *writer) service(s Service) {
	if s.Cache != nil && s.Mode == ModeHTTP {
		w.head("cache", s.Name)
		w.line("total-max-size", strconv.Itoa(cacheMB))
		w.line("max-object-size", strconv.Itoa(s.Cache.MaxObjectKB*1024))
		w.line("max-age", strconv.Itoa(int(s.Cache.MaxAge.Seconds())))
	}
	if len(s.Bind) > 0 {
		w.frontend(s)
	}
	for _, b := range s.Backends {
		w.backend(s, b)
	}
}

func (w *writer) frontend(s Service) {
	w.head("frontend", FrontendName(s.Name))
	binds := slices.Clone(s.Bind)
	slices.SortFunc(binds, func(a, b netip.AddrPort) int { return a.Compare(b) })
	for _, b := range binds {
		w.line("bind", listen(b))
	}
	w.mode(s)
	if s.Mode == ModeHTTP {
		w.line("option", w.version.acceptInvalid())
	}
	w.line("timeout client", ms(s.TimeoutClient))
	if s.LogFormat != "" {
		w.line("log-format", s.LogFormat)
		if s.Mode == ModeHTTP {
			// HAProxy's own timers know no less than a millisecond.
			w.line("http-request set-var(" + LogStart + ") date(0,us)")
		}
	}
	w.fault(s)
	if s.Mode == ModeHTTP {
		if s.CallerMap != "" {
			// Set always, so that nobody claims to be somebody else.
			w.line("http-request set-var(txn.caller)", quote("src,map_ip("+s.CallerMap+",0)"))
			w.line("http-request set-header X-Smartstack-Origin", `"%[var(txn.caller)]"`)
		}
		if p := s.ProxiedThrough; p != "" {
			// Straight to the service: its status, what comes from the proxy itself,
			// and everything while no proxy is up.
			w.line("acl is_status_request path", quote(s.Check.Path))
			w.line("acl request_from_proxy req.hdr(X-Smartstack-Source) -m beg -i", quote(p))
			w.line("acl proxy_is_up nbsrv(" + word(p) + ") gt 0")
			w.line("http-request set-header X-Smartstack-Destination", quoteFormat(s.Name), "if !is_status_request !request_from_proxy proxy_is_up")
			w.line("use_backend", word(p), "if !is_status_request !request_from_proxy proxy_is_up")
		}
	}
	if len(s.Backends) > 1 {
		// A wider location takes over when all that is nearer is down or has neither
		// connection nor queue slots left. (connslots also counts draining servers,
		// nbsrv does not know about slots.)
		for i, b := range s.Backends {
			name := word(b.Name)
			w.line("acl", fmt.Sprintf("usable_%d", i), "nbsrv("+name+") gt 0")
			w.line("acl", fmt.Sprintf("slots_%d", i), "connslots("+name+") gt 0")
			w.line("use_backend", name, fmt.Sprintf("if usable_%d slots_%d", i, i))
		}
		for i, b := range s.Backends {
			w.line("use_backend", word(b.Name), fmt.Sprintf("if usable_%d", i))
		}
	}
	w.line("default_backend", word(s.Name))
}

func (w *writer) mode(s Service) {
	w.line("mode", s.Mode)
	if s.Mode == ModeHTTP {
		// One request a connection unless asked otherwise: a reload or a drain then
		// never meets a connection that idles between two requests.
		if s.KeepAlive {
			w.line("option http-keep-alive")
		} else {
			w.line("option httpclose")
		}
	}
}

func (w *writer) fault(s Service) {
	f := s.Fault
	if f.Drop {
		w.line("tcp-request content reject")
		return
	}
	switch {
	case f.Delay > 0 && s.Mode == ModeHTTP:
		// inspect-delay, which the original uses, ends with the request's last byte.
		words := []string{"http-request lua.paasta_delay", strconv.FormatInt(f.Delay.Milliseconds(), 10)}
		if f.Percent < 100 {
			words = append(words, "if { rand(10000) lt", strconv.Itoa(percent(f.Percent)), "}")
		}
		w.line(words...)
	case f.Delay > 0:
		w.line("tcp-request inspect-delay", ms(f.Delay))
		if f.Percent < 100 {
			// Drawn once a connection: the rules are run again for each packet.
			w.line("tcp-request content set-var(txn.delayed) rand(10000) unless { var(txn.delayed) -m found }")
			w.line("tcp-request content accept if { var(txn.delayed) -m int ge", strconv.Itoa(percent(f.Percent)), "}")
		}
		w.line("tcp-request content accept if WAIT_END")
	}
	switch {
	case f.Error != 0 && s.Mode == ModeHTTP:
		w.line("http-request return status", strconv.Itoa(f.Error), "if TRUE")
	case f.Error != 0:
		w.line("tcp-request content reject if TRUE")
	}
}

func (w *writer) backend(s Service, b Backend) {
	w.head("backend", b.Name)
	w.mode(s)
	w.line("balance", s.Balance)
	if s.Balance == "source" || s.Balance == "uri" {
		w.line("hash-type consistent") // the other one refuses servers at run time
	}
	w.line("retries", strconv.Itoa(s.Retries))
	w.line("timeout connect", ms(s.TimeoutConnect))
	w.line("timeout server", ms(s.TimeoutServer))
	w.line("timeout queue", ms(s.TimeoutServer))
	if s.TimeoutTunnel > 0 {
		w.line("timeout tunnel", ms(s.TimeoutTunnel))
	}
	w.line("timeout check", ms(s.Check.Timeout))
	if s.Mode == ModeHTTP {
		w.requests(s)
	}
	w.check(s.Check)
	usual := serverOptions(s, Options{})
	for _, srv := range byName(b.Servers) {
		if srv.Leaving {
			continue
		}
		w.text = append(append(append(w.text, "\tserver "...), word(srv.Name)...), ' ')
		options := usual
		if srv.Options != (Options{}) {
			options = serverOptions(s, srv.Options)
		}
		w.text = append(appendServer(w.text, srv, options), '\n')
	}
}

// requests writes what a backend does with HTTP requests.
func (w *writer) requests(s Service) {
	w.line("http-request tarpit if { req.hdr(X-Ctx-Tarpit) -m sub -i", quote(s.Name), "}")
	for _, h := range s.Headers {
		if h.Value == "" { // HAProxy sets no empty headers
			w.line("http-request del-header", word(h.Name))
			continue
		}
		w.line("http-request set-header", word(h.Name), quoteFormat(h.Value))
	}
	if s.IsProxy {
		w.line("http-request set-header X-Smartstack-Source", quoteFormat(s.Name), "unless { path", quote(s.Check.Path), "}")
	}
	// The original has one more backend a path, with servers and checks of its
	// own; this needs none, and such a request spills over to wider locations
	// like any other. The last rule that matches wins, so the longest is last.
	for _, e := range slices.Backward(s.Endpoints) {
		match := "path_beg"
		if e.Path == "/" {
			match = "path"
		}
		w.line("http-request set-timeout server", ms(e.Timeout), "if {", match, quote(e.Path), "}")
		// Else an upgraded connection has the client's timeout. Never less than the
		// service's own: a path may be quick to answer and slow to talk.
		w.line("http-request set-timeout tunnel", ms(max(e.Timeout, s.TimeoutTunnel)), "if {", match, quote(e.Path), "}")
	}
	if s.Cache != nil {
		w.cache(s)
	}
}

// cache writes what is answered from the cache and what is put there. HAProxy
// itself looks at Cache-Control, and keeps nothing without a freshness header;
// that an answer is meant for one user it does not know.
func (w *writer) cache(s Service) {
	const personal = "{ var(txn.personal) -m found }"
	asked := "{ req.hdr(Authorization) -m found }"
	if !s.Cache.WithCookies {
		asked += " || { req.hdr(Cookie) -m found }"
	}
	w.line("http-request set-var(txn.personal) bool(true) if", asked) // in the response these headers are gone
	w.line("http-request cache-use", word(s.Name), "unless", personal)
	w.line("http-response set-var(txn.personal) bool(true) if { res.hdr(Set-Cookie) -m found } || { res.hdr(Set-Cookie2) -m found } || { res.hdr(Cache-Control) -m sub -i private }")
	w.line("http-response cache-store", word(s.Name), "unless", personal)
}

func (w *writer) check(c Check) {
	if c.Mode == ModeTCP {
		return
	}
	w.line("option httpchk")
	words := []string{"http-check send meth GET uri", quote(c.Path), "ver HTTP/1.1"}
	for _, h := range c.AllHeaders() {
		if h.Value == "" {
			continue
		}
		words = append(words, "hdr", word(h.Name), quoteFormat(h.Value))
	}
	w.line(words...)
	w.line("http-check expect status 200-399")
	if c.BodyExpect != "" {
		w.line("http-check expect string", quote(c.BodyExpect))
	}
}

// AllHeaders returns the headers of a check, with the Host that HTTP/1.1 wants.
func (c Check) AllHeaders() []Header {
	for _, h := range c.Headers {
		if strings.EqualFold(h.Name, "Host") {
			return c.Headers
		}
	}
	return append([]Header{{"Host", "localhost"}}, c.Headers...)
}

// ServerLine returns all that follows a server's name, in the file as in "add
// server" at run time: every option is written out, since the latter ignores
// default-server.
func ServerLine(s Service, srv Server) string {
	return string(appendServer(nil, srv, serverOptions(s, srv.Options)))
}

func appendServer(b []byte, srv Server, options []byte) []byte {
	b = srv.Addr.AppendTo(b)
	b = append(b, " id "...)
	b = strconv.AppendInt(b, int64(srv.ID), 10)
	b = append(b, " weight "...)
	b = strconv.AppendInt(b, int64(srv.Weight), 10)
	return append(b, options...)
}

// serverOptions is what of a server line does not change while it is known.
func serverOptions(s Service, o Options) []byte {
	b := make([]byte, 0, 128)
	add := func(key, value string) {
		b = append(b, ' ')
		b = append(b, key...)
		if value != "" {
			b = append(b, ' ')
			b = append(b, value...)
		}
	}
	add("check", "")
	if s.Check.Mode == ModeHTTPS {
		add("check-ssl verify none", "")
	}
	if s.Check.Port != 0 {
		add("port", strconv.Itoa(s.Check.Port))
	}
	add("inter", ms(s.Check.Every))
	add("fastinter", ms(s.Check.Fast))
	add("downinter", ms(s.Check.Fast))
	add("rise 1 fall 2", "")
	if s.Mode == ModeHTTP {
		add("observe layer7", "")
	} else {
		add("observe layer4", "")
	}
	add("error-limit 1 on-error fastinter", "")
	maxConn, maxQueue := o.MaxConn, o.MaxQueue
	if len(s.Backends) > 1 {
		if maxConn == 0 {
			maxConn = spillMaxConn
		}
		if maxQueue == 0 {
			maxQueue = spillMaxQueue
		}
	}
	if maxConn > 0 {
		add("maxconn", strconv.Itoa(maxConn))
	}
	if maxQueue > 0 {
		add("maxqueue", strconv.Itoa(maxQueue))
	}
	if o.Backup {
		add("backup", "")
	}
	return b
}

// listen is the argument of bind. The kernel makes a socket of one IPv6 address an
// IPv6-only one, and without the word HAProxy looks for one that is not when it
// takes over the listeners of the process before: it would open new ones, and the
// connections that wait in the old ones would be reset.
func listen(at netip.AddrPort) string {
	if at.Addr().Is6() && !at.Addr().Is4In6() && !at.Addr().IsUnspecified() {
		return at.String() + " v6only"
	}
	return at.String()
}

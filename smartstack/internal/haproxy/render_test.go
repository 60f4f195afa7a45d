package haproxy

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A Config is all that a haproxy.cfg says.
type Config struct {
	Global   Global
	Custom   string // an operator's own sections, kept as they are; "" for none
	Services []Service
}

// Render returns the text of haproxy.cfg. Equal configs give equal text, in
// whatever order their services and servers come, so a caller may compare texts
// to see whether anything changed.
func Render(c Config) []byte {
	sections := make([]*Section, len(c.Services))
	for i, s := range c.Services {
		sections[i] = NewSection(s)
	}
	var b bytes.Buffer
	w := bufio.NewWriterSize(&b, 1<<16)
	Write(w, c.Global, c.Custom, sections)
	w.Flush()
	return b.Bytes()
}

var update = flag.Bool("update", false, "rewrite golden files")

var testGlobal = Global{
	Socket: "/var/lib/paasta/smartstack/haproxy.sock", MaxConn: 8000, HardStop: 10 * time.Minute, StatsListen: netip.MustParseAddrPort("127.0.0.1:3212"), Names: []string{"host1", "host1.example.com"},
	StateFile: "/dev/null", Version: Version{2, 6}, DelayScript: "testdata/delay.lua",
}

// plain is a service that asks for nothing.
func plain(name string, port uint16, servers ...Server) Service {
	return Service{
		Name: name, Mode: ModeHTTP, Balance: "leastconn", Retries: 1,
		Bind:           []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)},
		TimeoutConnect: 200 * time.Millisecond, TimeoutClient: time.Second, TimeoutServer: time.Second,
		Check:    Check{Mode: ModeHTTP, Path: "/status", Timeout: time.Second, Every: 10 * time.Minute, Fast: 30 * time.Second},
		Backends: []Backend{{Name: name, Servers: servers}},
	}
}

func server(n int, weight int) Server {
	return Server{Name: fmt.Sprintf("host%d_10.0.0.%d:31000", n, n), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 31000), ID: n, Weight: weight}
}

// text is a service as it is in a file.
func text(s Service) (all string) {
	withText(s, Version{}, func(b []byte) { all = string(b) })
	return all
}

// configs are the golden files.
func configs() map[string]Config {
	everything := plain("svc.main", 20001, server(1, 10), server(2, 0))
	everything.Balance = "roundrobin"
	everything.KeepAlive = true
	everything.CallerMap = "/dev/null"
	everything.Endpoints = []Endpoint{{"/slow/er", 20 * time.Second}, {"/slow", 10 * time.Second}, {"/", 5 * time.Second}}
	everything.Check.Headers = []Header{{"X-Mode", `r"o $HOME %[src]`}}
	everything.Check.BodyExpect = `it's "fine" #1`
	everything.Check.Port = 6666
	everything.Headers = []Header{{"X-Mode", `r"o $HOME %[src] \ 'x' #`}}
	everything.ProxiedThrough = "proxy.main"
	everything.Fault = Fault{Delay: 20 * time.Millisecond, Percent: 12.5}
	everything.Cache = &Cache{MaxAge: time.Minute, MaxObjectKB: 64}
	everything.TimeoutTunnel = 6 * time.Second
	everything.Backends = append(everything.Backends, Backend{Name: "svc.main.superregion", Servers: []Server{server(1, 10), server(3, 10)}})
	everything.Backends[0].Servers[0].Options = Options{Backup: true, MaxConn: 7}

	proxy := plain("proxy.main", 20003, server(9, 10))
	proxy.IsProxy = true
	proxy.Cache = &Cache{MaxAge: time.Hour, MaxObjectKB: 1, WithCookies: true}

	tcp := plain("db.main", 20002, server(4, 10))
	tcp.Mode, tcp.Balance = ModeTCP, "source"
	tcp.Check = Check{Mode: ModeTCP, Timeout: time.Second, Every: time.Minute, Fast: time.Second}
	tcp.TimeoutClient, tcp.TimeoutServer, tcp.TimeoutTunnel = 24*time.Hour, 24*time.Hour, 48*time.Hour

	mixed := plain("mixed.main", 20004, server(5, 10))
	mixed.Mode = ModeTCP
	mixed.Check.Mode = ModeHTTPS

	dropped := plain("dropped.main", 20005)
	dropped.Fault = Fault{Drop: true}
	broken := plain("broken.main", 20006)
	broken.Fault = Fault{Error: 503, Delay: time.Second, Percent: 100}

	newest := testGlobal
	newest.Version, newest.Root = Tested[len(Tested)-1], true

	return map[string]Config{
		"nothing":    {Global: testGlobal},
		"one":        {Global: testGlobal, Services: []Service{plain("web.main", 20001, server(1, 10), server(2, 10))}},
		"everything": {Global: testGlobal, Services: []Service{everything, proxy}},
		"tcp":        {Global: testGlobal, Services: []Service{tcp, mixed}},
		"faults":     {Global: testGlobal, Services: []Service{dropped, broken}},
		"newest":     {Global: newest, Services: []Service{everything, proxy, tcp}},
		"custom":     {Global: testGlobal, Custom: "frontend mine\n\tbind 127.0.0.1:9999\n\tmode tcp\n\ttimeout client 1s\n\tdefault_backend its\n\nbackend its\n\tmode tcp\n\tserver a 127.0.0.1:1", Services: []Service{plain("web.main", 20001)}},
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	for name, c := range configs() {
		for _, s := range c.Services {
			if err := s.Validate(); err != nil {
				t.Errorf("%s: %s: %v", name, s.Name, err)
			}
		}
		file := filepath.Join("testdata", name+".cfg")
		got := Render(c)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// version is which HAProxy the tests run with.
func version(t testing.TB, p Process) Version {
	t.Helper()
	v, _, err := p.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// HAProxy itself accepts every golden config, as it is for this version, and has
// nothing to remark about it: neither when it checks it nor when it starts.
func TestGoldenFilesAreSilent(t *testing.T) {
	if !paastatest.InNamespace(t) { // their ports are fixed
		return
	}
	p := Process{Binary: paastatest.Need(t, "haproxy"), Dir: t.TempDir()}
	defer func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(p.StateFile(), CarryOver(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range configs() {
		c.Global.Version, c.Global.Root = version(t, p), os.Geteuid() == 0
		c.Global.Socket, c.Global.StateFile = p.Socket(), p.StateFile()
		if err := p.Write(Render(c)); err != nil {
			t.Fatal(err)
		}
		start := []string{"-D", "-f", p.config(), "-p", p.pidFile()}
		for _, args := range [][]string{{"-c", "-f", p.config()}, start} {
			said := filepath.Join(p.Dir, "said") // a file, since the daemon keeps a pipe open
			out, err := os.Create(said)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(p.Binary, args...)
			cmd.Stdout, cmd.Stderr = out, out
			err = cmd.Run()
			out.Close()
			text, _ := os.ReadFile(said)
			if err != nil || bytes.Contains(text, []byte("[WARNING]")) || bytes.Contains(text, []byte("[ALERT]")) {
				t.Errorf("%s: haproxy %s: %v\n%s", name, strings.Join(args, " "), err, text)
			}
		}
		if err := p.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// hostile draws text that would like to be more than one word.
func hostile() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"", "\n", "x\n\tserver evil 1.2.3.4:80", "a b", `"`, `\`, `\"`, "$HOME", "%[src]", "'", "#", ";", "a;shutdown", "{", "if TRUE", "\x00", "\r\n", "\\\n", "~", "é"}),
		rapid.Map(rapid.SliceOf(rapid.SampledFrom([]string{"a", "\n", "\t", " ", `"`, `\`, "$", "%", "'", "#", "/", ":"})), func(s []string) string { return strings.Join(s, "") }),
	)
}

func hostileService(t *rapid.T, text *rapid.Generator[string]) Service {
	header := func(name string) []Header {
		return []Header{{text.Draw(t, name+" name"), text.Draw(t, name+" value")}, {"X-Fine", text.Draw(t, name+" value")}}
	}
	s := plain(text.Draw(t, "name"), 20001)
	s.Check.Path, s.Check.BodyExpect = text.Draw(t, "path"), text.Draw(t, "expect")
	s.Check.Headers, s.Headers = header("check header"), header("header")
	s.Endpoints = []Endpoint{{text.Draw(t, "endpoint"), time.Second}}
	s.ProxiedThrough = text.Draw(t, "proxied through")
	s.IsProxy = true
	s.Backends = []Backend{{Name: s.Name, Servers: []Server{{Name: text.Draw(t, "server"), Addr: netip.MustParseAddrPort("10.0.0.1:80"), ID: 1, Weight: 10}}}}
	return s
}

// Whatever is in a service, its section has the lines that a harmless one has:
// even without Validate, which refuses most of it.
func TestNothingAddsALine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := hostileService(t, hostile())
		tame := plain("a.b", 20001, Server{Name: "s", Addr: netip.MustParseAddrPort("10.0.0.1:80"), ID: 1, Weight: 10})
		tame.Check.BodyExpect = "x"[:min(len(s.Check.BodyExpect), 1)]
		tame.Check.Headers, tame.Headers = []Header{{"A", "b"}, {"C", "d"}}, []Header{{"A", "b"}, {"C", "d"}}
		tame.Endpoints = []Endpoint{{"/", time.Second}}
		tame.ProxiedThrough = "p.q"[:min(len(s.ProxiedThrough), 3)]
		tame.IsProxy = true
		keywords := func(text []byte) []string {
			var words []string
			for line := range bytes.Lines(text) {
				word, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
				words = append(words, string(word))
			}
			return words
		}
		got, want := keywords([]byte(text(s))), keywords([]byte(text(tame)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%+v (-want +got):\n%s\n%s", s, diff, text(s))
		}
		for _, c := range (Command{Op: Add, Backend: s.Name, Server: s.Backends[0].Servers[0], line: ServerLine(s, s.Backends[0].Servers[0])}).Lines() {
			if strings.ContainsAny(c, "\n\r;") {
				t.Fatalf("command %q", c)
			}
		}
	})
}

// What Validate passes, HAProxy takes.
func TestValidIsAccepted(t *testing.T) {
	p := Process{Binary: paastatest.Need(t, "haproxy"), Dir: t.TempDir()}
	var valid []*Section
	ugly := rapid.Map(rapid.SliceOf(rapid.SampledFrom([]string{"a", "b c", `"`, `\\`, "$", "${HOME}", "%", "%[src]", "'", "#", "/", ":", ";", "{", "}", "é", "(", "*"})), func(s []string) string { return strings.Join(s, "") })
	rapid.Check(t, func(t *rapid.T) {
		s := hostileService(t, ugly)
		s.Name = fmt.Sprintf("svc.n%d", len(valid))
		s.Backends[0].Name, s.Backends[0].Servers[0].Name = s.Name, "x_10.0.0.1:80"
		s.ProxiedThrough = ""
		s.Bind[0] = netip.AddrPortFrom(s.Bind[0].Addr(), uint16(20000+len(valid)))
		for _, text := range []*string{&s.Check.Path, &s.Endpoints[0].Path} {
			*text = "/" + strings.ReplaceAll(*text, " ", "")
		}
		s.Check.Headers[0].Name, s.Headers[0].Name = "X-A", "X-B"
		if s.Validate() == nil {
			valid = append(valid, NewSection(s))
		}
	})
	t.Logf("%d valid services", len(valid))
	if len(valid) < 5 {
		t.Fatal("too few to tell")
	}
	if err := p.Check(context.Background(), func(w *bufio.Writer) {
		Write(w, Global{Version: version(t, p), DelayScript: "testdata/delay.lua", Socket: "/tmp/x.sock", MaxConn: 100, HardStop: time.Minute}, "", valid)
	}); err != nil {
		t.Error(err)
	}
}

func TestIsolate(t *testing.T) {
	p := Process{Binary: paastatest.Need(t, "haproxy"), Dir: t.TempDir()}
	var sections []*Section
	for i := range 40 {
		sections = append(sections, NewSection(plain(fmt.Sprintf("svc.n%d", i), uint16(20000+i), server(1, 10))))
	}
	for _, i := range []int{3, 17, 18} {
		sections[i].Service.LogFormat = "x\n\tnonsense here"
	}
	checks, v := 0, version(t, p)
	broken, err := Isolate(sections, func(some []*Section) error {
		checks++
		return p.Check(t.Context(), func(w *bufio.Writer) {
			Write(w, Global{Version: v, DelayScript: "testdata/delay.lua", Socket: "/tmp/x.sock", MaxConn: 100, HardStop: time.Minute}, "", some)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(broken) != 3 || broken["svc.n3"] == nil || broken["svc.n17"] == nil || broken["svc.n18"] == nil {
		t.Errorf("broken: %v", broken)
	}
	t.Logf("%d checks", checks)
}

// BenchmarkRender is a whole config of 1,000 services of 10 servers each, beside
// the same text by text/template, and HAProxy's own check of it.
func BenchmarkRender(b *testing.B) {
	c := thousand()
	var text []byte
	for b.Loop() {
		text = Render(c)
	}
	render := b.Elapsed() / time.Duration(b.N)

	simple := template.Must(template.New("").Parse(`{{range .}}
frontend {{.Name}}
	bind {{index .Bind 0}}
	mode {{.Mode}}
	option httpclose
	timeout client {{.TimeoutClient.Milliseconds}}ms
	default_backend {{.Name}}
{{$s := .}}{{range .Backends}}
backend {{.Name}}
	mode {{$s.Mode}}
	option httpclose
	balance {{$s.Balance}}
	retries {{$s.Retries}}
	timeout connect {{$s.TimeoutConnect.Milliseconds}}ms
	timeout server {{$s.TimeoutServer.Milliseconds}}ms
	timeout queue {{$s.TimeoutServer.Milliseconds}}ms
	timeout check {{$s.Check.Timeout.Milliseconds}}ms
	http-request tarpit if { req.hdr(X-Ctx-Tarpit) -m sub -i "{{$s.Name}}" }
	option httpchk
	http-check send meth GET uri "{{$s.Check.Path}}" ver HTTP/1.1 hdr Host "localhost"
	http-check expect status 200-399
{{range .Servers}}	server {{.Name}} {{.Addr}} id {{.ID}} weight {{.Weight}} check inter {{$s.Check.Every.Milliseconds}}ms fastinter {{$s.Check.Fast.Milliseconds}}ms downinter {{$s.Check.Fast.Milliseconds}}ms rise 1 fall 2 observe layer7 error-limit 1 on-error fastinter
{{end}}{{end}}{{end}}`))
	services := slices.Clone(c.Services)
	slices.SortFunc(services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	begin := time.Now()
	if err := simple.Execute(&out, services); err != nil {
		b.Fatal(err)
	}
	templated := time.Since(begin)
	if !bytes.HasSuffix(text, out.Bytes()) {
		b.Error("the template makes another text: the two cannot be compared")
	}
	p := Process{Binary: paastatest.Need(b, "haproxy"), Dir: b.TempDir()}
	begin = time.Now()
	if err := p.Check(context.Background(), func(w *bufio.Writer) { w.Write(text) }); err != nil {
		b.Fatal(err)
	}
	check := time.Since(begin)
	b.ReportMetric(render.Seconds()*1000, "ms-render")
	b.ReportMetric(templated.Seconds()*1000, "ms-template")
	b.ReportMetric(check.Seconds()*1000, "ms-haproxy-c")
	b.ReportMetric(check.Seconds()/render.Seconds(), "x-haproxy-c")
	b.ReportMetric(templated.Seconds()/render.Seconds(), "x-template")
}

func thousand() Config {
	c := Config{Global: testGlobal}
	for i := range 1000 {
		var servers []Server
		for j := range 10 {
			servers = append(servers, Server{
				Name: fmt.Sprintf("host%d_10.%d.%d.%d:31000", j, i/250, i%250, j), ID: j + 1, Weight: 10,
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i / 250), byte(i % 250), byte(j)}), 31000),
			})
		}
		c.Services = append(c.Services, plain(fmt.Sprintf("service%d.main", i), uint16(20000+i), servers...))
	}
	return c
}

// A socket of one IPv6 address is taken over at a reload with this word only.
func TestListen(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "0.0.0.0:80": "0.0.0.0:80", "[::]:80": "[::]:80", "[::1]:80": "[::1]:80 v6only", "[fd00::1]:80": "[fd00::1]:80 v6only",
	} {
		if got := listen(netip.MustParseAddrPort(at)); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

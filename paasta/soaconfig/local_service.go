package soaconfig

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A LocalService is one file of the host agent's services directory: a service
// of this host that is not on Marathon, to be checked and registered.
type LocalService struct {
	Name           string // of the file, without extension
	File           string
	Host           string              `soa:"host"`          // published; "" for the agent's own address
	Port           int                 `soa:"port"`          // published
	Registrations  []string            `soa:"registrations"` // "service.namespace"; default: [Name]
	Weight         int                 `soa:"weight"`        // default 10; 0 registers it as draining
	Labels         map[string]string   `soa:"labels"`
	Advertise      []string            `soa:"advertise"`       // location types; default [region]
	ExtraAdvertise map[string][]string `soa:"extra_advertise"` // as in smartstack.yaml
	CheckInterval  time.Duration       `soa:"check_interval"`  // pause between two rounds; default 2s
	Checks         []LocalCheck        // all must pass; none: always healthy
	ServerOptions  string              `soa:"haproxy_server_options"` // nerve's haproxy_server_options, published as it is
}

// A LocalCheck is one check of a local service, with host and port filled in.
type LocalCheck struct {
	Type    string            `soa:"type"` // http, https, tcp, cmd, redis, noop
	Host    string            `soa:"host"` // default the service's, as with nerve; 127.0.0.1 without one
	Port    int               `soa:"port"` // default the service's
	URI     string            `soa:"uri"`  // http(s): path and query; default /status
	Status  [][2]int          // http(s): accepted codes, inclusive ranges; default 200-399
	Expect  string            `soa:"expect"` // http(s): text that the body must hold
	Headers map[string]string `soa:"headers"`
	Cmd     string            `soa:"cmd"`     // cmd: shell command that succeeds
	Timeout time.Duration     `soa:"timeout"` // default 1s
	Rise    int               `soa:"rise"`    // results in a row; default 1
	Fall    int               `soa:"fall"`
}

// Accepts tells whether an HTTP status passes the check.
func (c LocalCheck) Accepts(status int) bool {
	for _, r := range c.Status {
		if r[0] <= status && status <= r[1] {
			return true
		}
	}
	return false
}

var (
	hostName      = newPattern(`^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`, "a host name or address")
	statusText    = newPattern(`^[1-5][0-9]{2}(-[1-5][0-9]{2})?(,[1-5][0-9]{2}(-[1-5][0-9]{2})?)*$`, "codes such as 200-399,404")
	labelName     = newPattern(`^[A-Za-z0-9][A-Za-z0-9_.:-]*$`, "a label")
	serverOptions = newPattern(`^[^\x00-\x1f\x7f]{0,1000}$`, "one line of up to 1000 characters")
	request       = newPattern(`^/[^\x00-\x20\x7f]*$`, "a path that begins with /, without spaces")
)

// localShape is a file of the services directory.
var localShape = anObject(
	key{"host", aText().matching(hostName), "the agent's own address", "Address that is published."},
	key{"port", aPort(), "", "Port that is published."},
	key{"registrations", listOf(aText().matching(registration)).items(1, 0).uniqueItems().essential(), "the name of the file", "Under which registrations."},
	key{"weight", anInteger().from(0).upTo(256), "10", "Share of the traffic; 0 means that it drains."},
	key{"labels", mapOf(labelName, aText()), "{}", "Labels besides those of the location."},
	key{"haproxy_server_options", aText().matching(serverOptions), "", "nerve's: published as it is, for hosts with synapse. Agents take `backup`, `maxconn`, `maxqueue` and `weight`."},
	key{"advertise", listOf(aText().matching(locationType)).uniqueItems(), "[region]", "Location types in which it can be found."},
	key{"extra_advertise", mapOf(location, listOf(aText().matching(location))), "{}", "`TYPE:LOCATION` of this host → where else it can be found."},
	key{"check_interval", aNumber().from(0.05).upTo(3600), "2", "Seconds between two rounds of checks."},
	key{"checks", listOf(anObject(
		key{"type", oneOf("http", "https", "tcp", "cmd", "redis", "noop"), "", "What is asked."},
		key{"host", aText().matching(hostName), "`host`, or 127.0.0.1", "Whom."},
		key{"port", aPort(), "`port`", "At which port."},
		key{"uri", aText().matching(request), "/status", "Path of an HTTP check."},
		key{"status", eitherOf(aText().matching(statusText), anInteger().from(100).upTo(599)), "200-399", "Codes that pass."},
		key{"expect", aText(), "", "Text that the body must hold."},
		key{"headers", mapOf(headerName, aText()), "{}", "Headers of the request."},
		key{"cmd", aText().multiLine(), "", "Command for `/bin/sh -c` that succeeds."},
		key{"timeout", aNumber().over(0).upTo(3600), "1", "Seconds that it may take."},
		key{"rise", anInteger().from(1).upTo(100), "1", "Passes in a row until it counts as up, also at start."},
		key{"fall", anInteger().from(1).upTo(100), "1", "Failures in a row until it counts as down."},
	).needs("type")).essential(), "[]", "All of them must pass; without any it is always up."},
).needs("port")

// ReadLocalService reads one file of the services directory, and returns all its
// problems. With one of the class Broken the service is of no use.
func ReadLocalService(file string) (LocalService, Problems) {
	return localService(readDocument(file))
}

func localService(d document) (LocalService, Problems) {
	s := LocalService{
		Name: strings.TrimSuffix(filepath.Base(d.file), filepath.Ext(d.file)), File: d.file,
		Weight: 10, Advertise: []string{"region"}, CheckInterval: 2 * time.Second,
	}
	switch {
	case d.problem != nil:
		return s, Problems{*d.problem}
	case d.root == nil && !d.exists:
		return s, Problems{{File: d.file, Text: "is not there"}}
	case d.root == nil:
		return s, Problems{{File: d.file, Text: "is empty"}}
	}
	var c checker
	root := c.check(d.root, d.root, localShape)
	if d.root.kind != object {
		return s, c.problems
	}
	if !registration.re.MatchString(s.Name) && !d.root.has("registrations") {
		c.at(d.root, "lacks registrations, and the name of the file is none (SERVICE.NAMESPACE)")
	}
	checkKeysOfType(&c, d.root)
	if len(c.problems.Of(Broken)) > 0 {
		return s, c.problems
	}
	decode(root, &s)
	if len(s.Registrations) == 0 {
		s.Registrations = []string{s.Name}
	}
	if checks := root.get("checks"); checks != nil {
		for _, v := range checks.items {
			s.Checks = append(s.Checks, localCheck(v, s.Host, s.Port))
		}
	}
	return s, c.problems
}

// checkKeysOfType reports keys that a check of its type does not look at, and
// the one that it cannot do without.
func checkKeysOfType(c *checker, root *value) {
	checks := root.get("checks")
	if checks == nil || checks.kind != list {
		return
	}
	for _, v := range checks.items {
		if v.kind != object || v.get("type") == nil {
			continue
		}
		typ := v.get("type").text
		if typ == "cmd" && !v.has("cmd") {
			c.at(v, "a cmd check lacks cmd", "checks")
		}
		for _, name := range []string{"uri", "status", "expect", "headers"} {
			if f := v.find(name); f != nil && typ != "http" && typ != "https" {
				c.wrong(f.key, "means nothing to a check of type "+typ, "checks", name)
			}
		}
		if f := v.find("cmd"); f != nil && typ != "cmd" {
			c.wrong(f.key, "means nothing to a check of type "+typ, "checks", "cmd")
		}
	}
}

func localCheck(v *value, host string, port int) LocalCheck {
	c := LocalCheck{Host: cmp.Or(host, "127.0.0.1"), Port: port, URI: "/status", Timeout: time.Second, Rise: 1, Fall: 1}
	status := "200-399"
	decode(v, &c)
	read(v, "status", &status)
	c.Status = statusRanges(status)
	return c
}

var statusRange = regexp.MustCompile(`([0-9]{3})(?:-([0-9]{3}))?`)

// statusRanges reads text that statusText has let through.
func statusRanges(text string) [][2]int {
	var ranges [][2]int
	for _, m := range statusRange.FindAllStringSubmatch(text, -1) {
		first := threeDigits(m[1])
		last := first
		if m[2] != "" {
			last = threeDigits(m[2])
		}
		ranges = append(ranges, [2]int{first, last})
	}
	return ranges
}

func threeDigits(s string) int {
	return int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
}

// Package haproxy knows HAProxy: the text of its config, its runtime API and
// its process. Deciding (Write, Diff) is pure; Runtime and Process act.
package haproxy

import (
	"net/netip"
	"time"
)

// Global is what belongs to the process and not to one service.
type Global struct {
	Socket      string         // path of the runtime API's Unix socket
	MaxConn     int            // connections of the whole process, where Files suffice, see FitMaxConn
	Files       int            // that the process may open; 0 for no limit
	HardStop    time.Duration  // how long a process may live on after a reload
	StatsListen netip.AddrPort // of the CSV page
	Names       []string       // of this host, by which that page may be asked for, besides addresses and localhost
	StateFile   string         // server states that are read at start; "" for none
	LogSocket   string         // Unix datagram socket that takes the log; "" for no log
	Version     Version        // of the HAProxy that reads it
	Root        bool           // it is started by root, and stays root: it has to reach its log's socket, and the next process's
	DelayScript string         // file that holds DelayScript, for services whose HTTP requests are delayed
}

// Modes of a service and of checks.
const (
	ModeHTTP  = "http"
	ModeHTTPS = "https" // only of a Check
	ModeTCP   = "tcp"
)

// A Service is one namespace: a frontend on its proxy_port, and its backends.
type Service struct {
	Name    string           // registration; the name of the first backend, see FrontendName
	Mode    string           // ModeHTTP or ModeTCP
	Bind    []netip.AddrPort // where the frontend listens
	Balance string           // see Balances

	KeepAlive      bool // keep connections open between requests
	Retries        int
	TimeoutConnect time.Duration
	TimeoutClient  time.Duration
	TimeoutServer  time.Duration
	TimeoutTunnel  time.Duration // of connections that were upgraded, and of TCP once both sides have spoken; 0: those of client and server
	Endpoints      []Endpoint    // timeouts by path, most specific first
	Check          Check

	Headers        []Header // set on every request
	ProxiedThrough string   // a service of the same Config that requests go through first; "" for none
	IsProxy        bool     // this service is such a proxy
	CallerMap      string   // map file, address → service that calls from it, for X-Smartstack-Origin; "" for no such header
	LogFormat      string   // a constant of ours, never foreign text; "" for HAProxy's own
	Fault          Fault
	Cache          *Cache

	// Backends are tried in order: the first is named like the service, the
	// others are wider locations that take over when those before are down or
	// full.
	Backends []Backend
}

// FrontendSuffix ends the names of frontends. From 3.3 on HAProxy has no frontend
// and backend of one name, and it warns of them before; so the name of the
// service is its backend's, on every version. No registration has a ":".
const FrontendSuffix = ":frontend"

// FrontendName is what the frontend of a service is called.
func FrontendName(service string) string { return service + FrontendSuffix }

// An Endpoint is a path prefix ("/" means exactly that) with its own timeout: of
// the server, and of a connection that is upgraded there.
type Endpoint struct {
	Path    string
	Timeout time.Duration
}

// A Header is one HTTP header.
type Header struct{ Name, Value string }

// A Check is how HAProxy, and the agent's own first probe, look at a server.
type Check struct {
	Mode       string        // ModeHTTP, ModeHTTPS or ModeTCP
	Path       string        // of an HTTP request
	Port       int           // 0: the server's own
	Timeout    time.Duration // of one check
	BodyExpect string        // text that the body must hold; "" for any
	Headers    []Header
	Every      time.Duration // between two checks while all is well
	Fast       time.Duration // between two checks after an error, and while down
}

// A Fault is put in on purpose, for callers on this host.
type Fault struct {
	Drop    bool          // close every connection
	Error   int           // answer every HTTP request with this status; 0 for none
	Delay   time.Duration // wait before a request goes on
	Percent float64       // share of connections that are delayed, 0 to 100
}

// A Cache lets HAProxy keep small responses.
type Cache struct {
	MaxAge      time.Duration
	MaxObjectKB int
	// WithCookies also keeps answers to requests with Cookie.
	WithCookies bool
}

// A Backend is a set of servers.
type Backend struct {
	Name    string
	Servers []Server
}

// A Server is one entry of the registry in a Backend.
type Server struct {
	Name    string // <name>_<ip>:<port>
	Addr    netip.AddrPort
	ID      int // explicit, unique in its backend, stable as long as the server is known
	Weight  int // 0 to 256; 0 means draining
	Options Options
	// Down says that the agent's own probe fails: HAProxy calls a server up before it
	// ever checked it, and its first check may be minutes away. Its checks go on, and
	// have the last word.
	Down bool
	// Leaving says that the server takes no traffic and waits to be deleted. Only
	// what runs has such servers; Render leaves them out.
	Leaving bool
}

// Options are what an entry may ask for its own server (nerve's
// haproxy_server_options, as far as we know them).
type Options struct {
	Backup   bool
	MaxConn  int // 0: the service's
	MaxQueue int // 0: the service's
}

// Balances are the algorithms that a service may ask for, and whether servers
// can be added at run time under each.
var Balances = map[string]bool{
	"leastconn":  true,
	"roundrobin": true,
	"random":     true,
	"first":      true,
	"source":     true, // with hash-type consistent, which we write
	"uri":        true, // as well
	"static-rr":  false,
}

// Limits of a server when there is a wider location to spill over to: that one
// is tried when every connection and queue slot is taken. Without one, a limit
// would only turn load into errors.
const (
	spillMaxConn  = 50
	spillMaxQueue = 10
)

// MaxWeight is HAProxy's.
const MaxWeight = 256

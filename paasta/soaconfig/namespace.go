package soaconfig

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// defaultNamespace is what an empty entry of smartstack.yaml means.
var defaultNamespace = Namespace{
	Mode: "http", Balance: "leastconn", Retries: 1,
	TimeoutConnect: 200 * time.Millisecond, TimeoutClient: time.Second, TimeoutServer: time.Second,
	HealthcheckURI: "/status", HealthcheckTimeout: time.Second, UpdownTimeout: 300 * time.Second,
	Discover: "region",
}

// statusPort is where every host shows HAProxy's statistics.
const statusPort = 3212

// lowestPort is the first port that any process may bind.
const lowestPort = 1024

// readNamespace makes a namespace of an entry that fits its shape.
func readNamespace(service string, e *entry) Namespace {
	ns, v := defaultNamespace, e.value
	ns.Service, ns.Name = service, e.name
	if port := v.get("proxy_port"); port != nil && port.number >= 0 {
		ns.Registered = true
		read(v, "proxy_port", &ns.ProxyPort)
	}
	ns.Advertise = []string{"region"}
	decode(v, &ns)
	if !v.get("healthcheck_mode").given() {
		ns.HealthcheckMode = ns.Mode
	}
	if ns.Mode == "https" {
		ns.Mode = "tcp" // TLS is passed through; only checks speak it
	}
	// Given only one of client and server, both get it.
	switch client, server := v.get("timeout_client_ms").given(), v.get("timeout_server_ms").given(); {
	case client && !server:
		ns.TimeoutServer = ns.TimeoutClient
	case server && !client:
		ns.TimeoutClient = ns.TimeoutServer
	}
	if f := v.get("healthcheck_timeout_s"); f.given() {
		ns.HealthcheckTimeout = time.Duration(math.Ceil(math.Round(1e6*f.number)/1e3)) * time.Millisecond // HAProxy takes no fraction
	}
	ns.checkCombined(e)
	if ns.Mode == "tcp" {
		ns.Keepalive, ns.EndpointTimeouts, ns.ExtraHeaders = false, nil, nil
		ns.ProxiedThrough, ns.Cache, ns.EndpointTemplates = "", nil, nil
	}
	return ns
}

// checkCombined reports what it takes two keys to know.
func (ns *Namespace) checkCombined(e *entry) {
	has := e.value.has
	if e.fine("advertise", "discover") && !slices.Contains(ns.Advertise, ns.Discover) {
		known := strings.Join(ns.Advertise, ", ")
		if has("discover") {
			text := quote(ns.Discover) + " is not in advertise (" + known + ")"
			text += spelling.Suggest(ns.Discover, ns.Advertise)
			e.report(text, "discover")
		} else {
			e.report("lacks "+ns.Discover+", which discover means by default: add it, or set discover to one of "+known, "advertise")
		}
	}
	switch port := ns.ProxyPort; {
	case port == nil:
	case *port == 0:
		e.report("is 0, which is no port", "proxy_port")
	case *port < lowestPort:
		e.say(Note, fmt.Sprintf("is %d: below %d a daemon of the host may have it, and the agent needs CAP_NET_BIND_SERVICE", *port, lowestPort), "proxy_port")
	}
	if ns.ProxyPort != nil && *ns.ProxyPort == statusPort {
		e.report(fmt.Sprintf("is %d, where HAProxy shows its own status", statusPort), "proxy_port")
	}
	if ns.ProxiedThrough == ns.Service+"."+ns.Name {
		e.report("is this namespace itself", "proxied_through")
	}
	if ns.Mode == "tcp" {
		for _, key := range []string{"keepalive", "endpoint_timeouts", "extra_headers", "proxied_through", "cache", "endpoint_templates"} {
			if has(key) {
				e.say(Wrong, "works only with mode: http", key)
			}
		}
	}
	if has("routes") && has("extra_advertise") {
		e.say(Wrong, "is the old form of extra_advertise, which is there too: remove it", "routes")
	}
}

// parseHAProxyTime reads text that matches haproxyTime; HAProxy's unit, when
// there is none, is the millisecond.
func parseHAProxyTime(s string) time.Duration {
	digits := strings.TrimRight(s, "usmhd")
	n, _ := strconv.Atoi(digits) // the pattern allows nine digits at most
	unit := map[string]time.Duration{
		"us": time.Microsecond, "": time.Millisecond, "ms": time.Millisecond,
		"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[s[len(digits):]]
	return time.Duration(n) * unit
}

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
	read(v, "mode", &ns.Mode)
	ns.HealthcheckMode = ns.Mode
	if ns.Mode == "https" {
		ns.Mode = "tcp" // TLS is passed through; only checks speak it
	}
	ns.balancing(v)
	ns.checking(v)
	ns.locations(v)
	ns.faults(v)
	ns.extras(v)
	ns.together(e)
	if ns.Mode == "tcp" {
		ns.Keepalive, ns.EndpointTimeouts, ns.ExtraHeaders = false, nil, nil
		ns.ProxiedThrough, ns.Cache, ns.EndpointTemplates = "", nil, nil
	}
	return ns
}

func (ns *Namespace) balancing(v *value) {
	read(v, "balance", &ns.Balance)
	read(v, "keepalive", &ns.Keepalive)
	read(v, "retries", &ns.Retries)
	read(v, "allredisp", &ns.AllRedisp)
	readMS(v, "timeout_connect_ms", &ns.TimeoutConnect)
	// Given only one of client and server, both get it.
	readMS(v, "timeout_client_ms", &ns.TimeoutServer)
	readMS(v, "timeout_server_ms", &ns.TimeoutServer)
	ns.TimeoutClient = ns.TimeoutServer
	readMS(v, "timeout_client_ms", &ns.TimeoutClient)
	readMS(v, "timeout_tunnel_ms", &ns.TimeoutTunnel)
	if timeouts := v.get("endpoint_timeouts"); timeouts != nil {
		ns.EndpointTimeouts = map[string]time.Duration{}
		for _, f := range timeouts.fields {
			ns.EndpointTimeouts[f.key.text] = milliseconds(math.Ceil(f.value.number))
		}
	}
}

func (ns *Namespace) checking(v *value) {
	read(v, "healthcheck_mode", &ns.HealthcheckMode)
	read(v, "healthcheck_uri", &ns.HealthcheckURI)
	read(v, "healthcheck_port", &ns.HealthcheckPort)
	if f := v.get("healthcheck_timeout_s"); f != nil {
		ns.HealthcheckTimeout = milliseconds(math.Ceil(math.Round(1e6*f.number) / 1e3)) // HAProxy takes no fraction
	}
	read(v, "healthcheck_body_expect", &ns.HealthcheckBodyExpect)
	read(v, "extra_healthcheck_headers", &ns.HealthcheckHeaders)
	read(v, "updown_timeout_s", &ns.UpdownTimeout)
}

func (ns *Namespace) locations(v *value) {
	ns.Advertise = []string{"region"}
	read(v, "advertise", &ns.Advertise)
	read(v, "discover", &ns.Discover)
	if extra := v.get("extra_advertise"); extra != nil {
		ns.ExtraAdvertise = map[string][]string{}
		for _, f := range extra.fields {
			ns.ExtraAdvertise[f.key.text] = f.value.texts()
		}
	}
	if routes := v.get("routes"); routes != nil {
		for _, item := range routes.items {
			var route Route
			read(item, "source", &route.Source)
			read(item, "destinations", &route.Destinations)
			ns.Routes = append(ns.Routes, route)
		}
	}
}

func (ns *Namespace) faults(v *value) {
	if delays := v.get("fixed_delay"); delays != nil {
		ns.FixedDelay = map[string]Delay{}
		for _, f := range delays.fields {
			d := Delay{Percent: 100}
			readMS(f.value, "duration_ms", &d.Duration)
			read(f.value, "percent", &d.Percent)
			ns.FixedDelay[f.key.text] = d
		}
	}
	chaos := v.get("chaos")
	if chaos == nil {
		return
	}
	ns.Chaos = map[string]map[string]Chaos{}
	for _, group := range chaos.fields {
		m := map[string]Chaos{}
		for _, f := range group.value.fields {
			var c Chaos
			read(f.value, "fail", &c.Fail)
			if delay := f.value.get("delay"); delay != nil {
				c.Delay = parseHAProxyTime(delay.text)
			}
			m[f.key.text] = c
		}
		ns.Chaos[group.key.text] = m
	}
}

func (ns *Namespace) extras(v *value) {
	read(v, "extra_headers", &ns.ExtraHeaders)
	read(v, "proxied_through", &ns.ProxiedThrough)
	read(v, "is_proxy", &ns.IsProxy)
	if cache := v.get("cache"); cache != nil {
		ns.Cache = &Cache{MaxAge: time.Minute, MaxObjectKB: 64}
		read(cache, "max_age_s", &ns.Cache.MaxAge)
		read(cache, "max_object_kb", &ns.Cache.MaxObjectKB)
		read(cache, "with_cookies", &ns.Cache.WithCookies)
	}
	read(v, "metrics_uri", &ns.MetricsURI)
	read(v, "endpoint_templates", &ns.EndpointTemplates)
	if plugins := v.get("plugins"); plugins != nil {
		ns.Plugins = map[string]map[string]any{}
		for _, f := range plugins.fields {
			ns.Plugins[f.key.text] = openMap(f.value)
		}
	}
}

// together reports what it takes two keys to know.
func (ns *Namespace) together(e *entry) {
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

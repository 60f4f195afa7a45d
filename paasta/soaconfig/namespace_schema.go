package soaconfig

// deprecatedKeys are the keys of a namespace that are read so that a file of
// SmartStack's own tools is sound, and that change nothing.
var deprecatedKeys = []struct{ name, why string }{
	{"allredisp", "every retry goes to another backend"},
	{"routes", "write extra_advertise"},
	{"plugins", "every namespace has metrics by caller and, with mode: http, X-Smartstack-Origin; path_based_routing was never published"},
}

// namespaceShape is one entry of smartstack.yaml. Nothing in it may carry
// HAProxy syntax: whatever a pattern lets through can stand unquoted, or
// between single quotes, in a config.
var namespaceShape = anObject(
	key{"proxy_port", anInteger().from(-1).upTo(65535).orNull().essential(), "absent", "Port of the load balancer on every host, one for the whole site. `null`: registered, but without a port. Absent or -1: not in SmartStack."},
	key{"mode", oneOf("http", "tcp", "https"), "http", "What is balanced; `https` passes TLS through as `tcp` does, and checks by HTTPS."},
	key{"balance", oneOf("leastconn", "roundrobin", "static-rr", "first", "source", "random", "uri"), "leastconn", "HAProxy's algorithm."},
	key{"keepalive", aBool(), "false", "Keep connections to backends open (http)."},
	key{"retries", anInteger().from(0).upTo(100), "1", "How often a connection is tried again."},
	key{"allredisp", aBool(), "false", "No meaning any more: each of these is tried on another backend."},
	key{"timeout_connect_ms", someMS(), "200", "Longest time to connect to a backend."},
	key{"timeout_client_ms", someMS(), "timeout_server_ms, or 1000", "Longest silence of a client."},
	key{"timeout_server_ms", someMS(), "timeout_client_ms, or 1000", "Longest silence of a backend."},
	key{"timeout_tunnel_ms", someMS(), "those of client and server", "Longest silence on both sides of an upgraded connection (a websocket), or of `tcp` once both have spoken."},
	key{"endpoint_timeouts", mapOf(uriPath, someMS()), "{}", "Server timeouts in ms of paths that begin so, also of connections that are upgraded there."},

	key{"healthcheck_mode", oneOf("http", "https", "tcp", "mysql", "smtp"), "`mode`", "How a backend is checked."},
	key{"healthcheck_uri", aText().matching(uriPath), "/status", "Path of an HTTP check."},
	key{"healthcheck_port", aPort(), "the service's", "Port that is checked."},
	key{"healthcheck_timeout_s", aNumber().over(0).upTo(3600), "1", "How long a check may take."},
	key{"healthcheck_body_expect", aText().matching(headerValue), "", "Text that the answer must hold."},
	key{"extra_healthcheck_headers", mapOf(headerName, aText().matching(headerValue)), "{}", "Headers of the check."},
	key{"updown_timeout_s", someSeconds(), "300", "How long `paasta smartstack drain --wait` and `undrain --wait` wait."},

	key{"advertise", listOf(aText().matching(locationType)).items(1, 0).uniqueItems(), "[region]", "Location types in which its backends can be found."},
	key{"discover", aText().matching(locationType), "region", "Location type that its clients look in; one of `advertise`."},
	key{"extra_advertise", mapOf(location, listOf(aText().matching(location))), "{}", "`TYPE:LOCATION` of backends → where else they can be found."},
	key{"routes", listOf(anObject(
		key{"source", aText().matching(location), "", "Where backends are."},
		key{"destinations", listOf(aText().matching(location)), "", "Where else they can be found."},
	).needs("source", "destinations")), "[]", "No meaning any more: old form of `extra_advertise`."},

	key{"extra_headers", mapOf(headerName, aText().matching(headerValue)), "{}", "Headers that every request gets (http)."},
	key{"proxied_through", aText().matching(registration), "", "Registration of a service that gets the requests first."},
	key{"is_proxy", aBool(), "false", "It is such a service."},
	key{"fixed_delay", mapOf(location, anObject(
		key{"duration_ms", aNumber().from(0).upTo(longest), "", "How long."},
		key{"percent", aNumber().from(0).upTo(100), "100", "Of how many requests."},
	).needs("duration_ms")), "{}", "`TYPE:LOCATION` of clients → delay of their requests."},
	key{"chaos", mapOf(locationType, mapOf(place, anObject(
		key{"fail", oneOf("drop", "error_503"), "", "`drop` connections, or answer with `error_503`."},
		key{"delay", eitherOf(aText().matching(haproxyTime), anInteger().from(0).upTo(longest)), "", "Delay of every request, e.g. `250ms`; a bare number is ms."},
	))), "{}", "Location type → location → fault for the clients there."},
	key{"cache", anObject(
		key{"max_age_s", anInteger().from(1).upTo(604_800), "60", "How long an answer is kept at most."},
		key{"max_object_kb", anInteger().from(1).upTo(1024), "64", "How large an answer may be."},
		key{"with_cookies", aBool(), "false", "Also answers to requests with `Cookie`: they are the same for everybody."},
	), "", "Keep answers that their headers allow to keep, on every host (http)."},
	key{"tls", reserved(), "", "Reserved: a namespace with it is not served by this version."},
	key{"allowed_callers", reserved(), "", "Reserved: a namespace with it is not served by this version."},
	key{"metrics_uri", aText().matching(uriPath), "", "Path under which tasks show their metrics."},
	key{"endpoint_templates", listOf(aText().matching(uriTemplate)).uniqueItems(), "[]", "Paths that metrics tell apart, e.g. `/users/{id}`."},
	key{"plugins", anObject(
		key{"logging", anObject(
			key{"enabled", aBool(), "false", "Log requests."},
			key{"sample_rate", aNumber().from(0).upTo(1), "0", "Which share of them."},
		), "", "Log who calls."},
		key{"path_based_routing", anObject(key{"enabled", aBool(), "false", "Switch it on."}), "", "Route by path."},
		key{"source_required", anObject(key{"enabled", aBool(), "false", "Switch it on."}), "", "Tell the service who calls."},
	), "{}", "No meaning any more: what they did is always on."},
)

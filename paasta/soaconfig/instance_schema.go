package soaconfig

import "slices"

// The keys of one instance. Defaults are those of defaultInstance; the text
// here is what the reference shows.

var bounceMethods = []string{"brutal", "crossover", "downthenup", "upthendown"}

func constraintsShape() *shape {
	operator := oneOf("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS")
	value := eitherOf(aText().matching(attribute), anInteger().from(0))
	return listOf(tupleOf(aText().matching(attributeName), operator, value).items(2, 3))
}

func attributePairs() *shape {
	return listOf(tupleOf(aText().matching(attributeName), aText().matching(attribute)))
}

var envShape = mapOf(envName, aText().multiLine())

// runKeys are the keys that say how to run the image; instances of every kind
// have them.
var runKeys = []key{
	{"cpus", aNumber().over(0).upTo(10_000), "0.25", "Cores that a task may always use."},
	{"cpu_burst_add", aNumber().from(0).upTo(10_000), "1", "Further cores that it may use while nobody else wants them."},
	{"cfs_period_us", anInteger().from(1000).upTo(1_000_000), "100000", "Period of the kernel's CPU quota, in microseconds."},
	{"mem", aNumber().over(32).upTo(1e9), "1024", "Memory in MB. A task that needs more is killed."},
	{"disk", aNumber().over(0).upTo(1e9), "1024", "Disk in MB, reserved and not enforced."},
	{"gpus", anInteger().from(0).upTo(1000), "", "GPUs; the key alone, even 0, selects the Mesos containerizer."},
	{"deploy_group", aText().matching(groupFormat), "`<cluster>.<instance>`", "Which commit runs: the one marked for this group, a step of deploy.yaml. `{cluster}`, `{instance}` and `{service}` are replaced."},
	{"cmd", aText().multiLine(), "the image's", "Command line for `/bin/sh -c`. Not together with `args`."},
	{"args", listOf(aText().multiLine()), "none", "Arguments for the image's entrypoint. Not together with `cmd`."},
	{"env", envShape, "{}", "Environment. Values are texts, and may be `SECRET(name)` or `SHARED_SECRET(name)`."},
	{"extra_volumes", listOf(anObject(
		key{"hostPath", aText().matching(hostPath), "", "Path on the host."},
		key{"containerPath", aText().matching(hostPath), "", "Path in the container."},
		key{"mode", oneOf("RO", "RW"), "", "`RO` or `RW`."},
	).needs("hostPath", "containerPath", "mode")).uniqueItems(), "[]", "Paths of the host in the container, besides those that every container has."},
	{"net", aText().matching(word), "bridge", "`bridge`, `host`, or the name of a Docker network."},
	{"pool", aText().matching(newPattern(`^[^\x00-\x1f\x7f]+$`, "the name of a pool, or a regular expression for it")), "default", "Value of the attribute `pool` of the agents that may run it."},
	{"extra_docker_args", mapOf(newPattern(`^[a-z][a-z0-9-]*$`, "an option of docker run without dashes"), aText()), "{}", "Further options of `docker run`, as `name: value`."},
	{"ulimit", mapOf(newPattern(`^[a-z]+$`, "the name of a limit, such as nofile"), anObject(
		key{"soft", anInteger().from(-1).upTo(1e15), "", "Soft limit; -1 is none."},
		key{"hard", anInteger().from(-1).upTo(1e15), "", "Hard limit; default the soft one."},
	).needs("soft")), "{}", "Limits by name, e.g. `nofile: {soft: 1024, hard: 4096}`."},
	{"cap_add", listOf(aText().matching(newPattern(`^[A-Za-z][A-Za-z_]*$`, "a capability such as IPC_LOCK"))), "[]", "Capabilities that the container gets."},
}

var drainURL = anObject(
	key{"url_format", aText().matching(newPattern(`^https?://[^\x00-\x20\x7f"'<>\\]+$`, "an http URL")), "", "URL; `{host}`, `{port}`, `{service}`, `{instance}` and `{nerve_ns}` are replaced."},
	key{"method", oneOf("GET", "POST", "PUT", "DELETE", "HEAD"), "GET", "HTTP method."},
	key{"success_codes", aText().matching(newPattern(`^[0-9]{3}(-[0-9]{3})?(,[0-9]{3}(-[0-9]{3})?)*$`, "codes such as 200-399,500")), "200", "Which answers mean yes, e.g. `200-399,500`."},
).needs("url_format")

// marathonKeys are the keys that only a running service has.
var marathonKeys = []key{
	{"instances", anInteger().from(0).upTo(100_000), "1", "How many tasks run. 0 stops it. Not used with `max_instances`."},
	{"min_instances", anInteger().from(0).upTo(100_000), "1", "Lower bound of autoscaling."},
	{"max_instances", anInteger().from(0).upTo(100_000), "", "Upper bound of autoscaling, which this key switches on."},
	{"backoff_factor", aNumber().from(1).upTo(1000), "2", "By how much Marathon multiplies the delay before it starts a failing task again."},
	{"max_launch_delay_seconds", marathonSeconds().from(0), "300", "Longest such delay."},
	{"registrations", listOf(aText().matching(registration)).uniqueItems(), "`[<service>.<instance>]`", "SmartStack namespaces, as SERVICE.NAMESPACE, under which its tasks are found. The first is the primary one."},
	{"nerve_ns", aText().matching(namespaceName), "", "Old form of one registration of the own service."},
	{"bounce_method", oneOf(bounceMethods...), "crossover", "How new code or settings replace the old: `brutal`, `crossover`, `downthenup` or `upthendown`."},
	{"bounce_health_params", anObject(
		key{"check_haproxy", aBool(), "true if it is in SmartStack", "A task must also be up in the load balancers to count as happy."},
		key{"min_task_uptime", someSeconds(), "0", "Seconds that it must have run."},
		key{"haproxy_min_fraction_up", aNumber().over(0).upTo(1), "1", "In which share of the load balancers it must be up."},
	), "{}", "When a task counts as happy."},
	{"bounce_margin_factor", aNumber().over(0).upTo(1), "1", "Share of the tasks that stay up during a crossover."},
	{"bounce_priority", anInteger().lenient(), "", "Not used any more."},
	{"bounce_start_deadline", someSeconds().lenient(), "0", "Seconds after a change within which its bounce should begin."},
	{"autoscaling", anObject(
		key{"metrics_provider", oneOf("mesos_cpu", "http", "uwsgi"), "mesos_cpu", "What is measured."},
		key{"decision_policy", oneOf("proportional", "threshold", "bespoke"), "proportional", "How the size follows from it."},
		key{"setpoint", aNumber().over(0).upTo(1), "0.8", "Utilization to aim at."},
	).allowOthers().lenient(), "{}", "How an instance with `max_instances` scales. Further keys belong to its provider and policy."},
	{"sfn_autoscaling", anObject().allowOthers().lenient(), "", "Not used."},
	{"drain_method", oneOf("noop", "hacheck", "http"), "by the registry if it is in SmartStack, else noop", "How a task is taken out of traffic before it is killed."},
	{"drain_method_params", anObject(
		key{"delay", someSeconds(), "60", "Seconds that a drained task lives on (hacheck)."},
		key{"hacheck_port", aPort(), "6666", "Port of hacheck."},
		key{"expiration", someSeconds(), "10 times `delay`, at least 60", "Seconds after which hacheck forgets a drain."},
		key{"timeout", someSeconds(), "the system's `drain_timeout`", "Longest time that a drain may take, in seconds."},
		key{"drain", drainURL, "", "Request that begins a drain (http)."},
		key{"stop_draining", drainURL, "", "Request that ends one (http)."},
		key{"is_draining", drainURL, "", "Request that asks for it (http)."},
		key{"is_safe_to_kill", drainURL, "", "Request that asks whether it is over (http)."},
	), "{}", "Settings of the drain method."},
	{"accepted_resource_roles", listOf(aText().matching(newPattern(`^(\*|[A-Za-z0-9_.][A-Za-z0-9_./-]*)$`, "a role of Mesos, or *"))).uniqueItems(), "Marathon's", "Mesos roles whose resources may be used; `*` for those of nobody."},
	{"constraints", constraintsShape(), "", "Marathon constraints in place of all that would be computed, even of the pool."},
	{"extra_constraints", constraintsShape(), "[]", "Marathon constraints before the computed ones."},
	{"deploy_blacklist", attributePairs(), "[]", "`[attribute, value]`: agents that may not run it."},
	{"deploy_whitelist", tupleOf(aText().matching(attributeName), listOf(aText().matching(attribute)).items(1, 0)).orEmptyList(), "", "`[attribute, [value, …]]`: only these agents may run it."},
	{"monitoring_blacklist", attributePairs().lenient(), "[]", "`[attribute, value]`: places that are not monitored."},
	{"monitoring", monitoringShape(), "monitoring.yaml", "As in monitoring.yaml, key by key over it."},
	{"container_port", aPort(), "8888", "Port on which the service listens in its container (for `net: host` there is only host_port)."},
	{"host_port", anInteger().from(0).upTo(65535), "0", "Port on the host; 0 lets Mesos choose one."},
	{"healthcheck_mode", oneOf("http", "https", "tcp", "cmd"), "the primary namespace's", "What Marathon checks; without namespace and mode, nothing."},
	{"healthcheck_cmd", aText().multiLine(), "", "Command of mode `cmd`."},
	{"healthcheck_uri", aText().matching(checkPath), "the namespace's, or /status", "Path of an HTTP check."},
	{"healthcheck_grace_period_seconds", marathonSeconds().from(0), "60", "How long checks may fail after the start of a task."},
	{"healthcheck_interval_seconds", marathonSeconds().from(0), "10", "Time between two checks."},
	{"healthcheck_timeout_seconds", marathonSeconds().from(0), "10", "How long a check may take."},
	{"healthcheck_max_consecutive_failures", anInteger().from(0).upTo(1e6), "30", "After how many failures in a row a task is killed."},
	{"replication_threshold", anInteger().from(0).upTo(100).lenient(), "50", "Percent of its tasks below which someone is alerted."},
	{"dependencies_reference", aText().matching(word).lenient(), "main", "Key of dependencies.yaml."},
	{"security", anObject(
		key{"outbound_firewall", oneOf("block", "monitor"), "", "`block` or `monitor`: what becomes of traffic to what is not in dependencies.yaml."},
	).lenient(), "", "Outbound firewall."},
	{"marathon_shard", anInteger().from(0).upTo(1000), "", "Index of the Marathon that runs it."},
	{"previous_marathon_shards", listOf(anInteger().from(0).upTo(1000)), "", "Indices of those that ran it."},
}

// instanceShape is one entry of marathon-<cluster>.yaml, adhocShape one of
// adhoc-<cluster>.yaml.
var (
	instanceShape = anObject(slices.Concat(runKeys, marathonKeys)...).orNull()
	adhocShape    = anObject(slices.Concat(runKeys, []key{
		{"role", aText().matching(word), "", "Mesos role."},
	})...).orNull()
)

package soaconfig

import "slices"

func people() *shape { return eitherOf(aText(), listOf(aText()), aBool()) }

// monitoringKeys are the keys of monitoring.yaml, of an instance's monitoring,
// and, for old services, of service.yaml.
var monitoringKeys = lenientKeys([]key{
	{"team", aText(), "", "Who is told. Without a team nobody is."},
	{"page", aBool(), "false", "Whether to wake someone."},
	{"ticket", aBool(), "false", "Whether to open a ticket."},
	{"runbook", aText(), "", "What to do, or where that stands."},
	{"tip", aText().multiLine(), "", "What to look at first."},
	{"notification_email", people(), "", "Further addresses, or false."},
	{"slack_channels", people(), "", "Slack channels that are told."},
	{"irc_channels", people(), "", "IRC channels that are told."},
	{"project", aText(), "", "Project of the ticket."},
	{"priority", eitherOf(aText(), anInteger()), "", "Its priority."},
	{"tags", listOf(aText()), "", "Its tags."},
	{"component", people(), "", "Its component."},
	{"description", aText().multiLine(), "", "Its text."},
	{"alert_after", eitherOf(aText().matching(someTime), aNumber().from(-longest).upTo(longest)), "2m for replication, else 5m", "How long something must be wrong."},
	{"realert_every", eitherOf(aText().matching(someTime), aNumber().from(-1).upTo(longest)), "-1: less and less often", "How often it is said again."},
	{"check_every", eitherOf(aText().matching(someTime), aNumber().from(0).upTo(longest)), "the check's own", "How often it is checked."},
	{"check_oom_events", aBool(), "true", "Tell about tasks that were killed for memory."},
})

func monitoringShape() *shape { return anObject(monitoringKeys...).allowOthers().lenient() }

// lenientKeys marks keys that nothing runs otherwise for.
func lenientKeys(keys []key) []key {
	for _, k := range keys {
		k.shape.lenient().orNull()
	}
	return keys
}

var serviceKeys = []key{
	{"description", aText().multiLine().lenient(), "", "What it is, for `paasta info`."},
	{"external_link", aText().matching(someURL).lenient(), "", "Where to read more."},
	{"git_url", aText().matching(gitURL), "", "Repository of the service."},
	{"docker_registry", aText().matching(registryHost), "the system's", "Where its images are."},
	{"encryption_key", aText().matching(word).lenient(), "paasta", "Name of the key that its secrets are encrypted with."},
}

// serviceShape is service.yaml: keys about the service, and defaults for all of
// its instances.
var serviceShape = anObject(slices.Concat(serviceKeys, without(monitoringKeys, "description"), instanceShape.keys)...).allowOthers()

func without(keys []key, name string) []key {
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return k.name == name })
}

var notifyKeys = []key{
	{"slack_notify", aBool(), "false", "Tell Slack about everything below."},
	{"notify_after_mark", aBool(), "slack_notify", "Tell it that a commit was marked."},
	{"notify_after_abort", aBool(), "slack_notify", "Tell it that a deployment was given up."},
	{"notify_after_good_deploy", aBool(), "slack_notify", "Tell it that a deployment went well."},
	{"notify_after_auto_rollback", aBool(), "slack_notify", "Tell it that it was rolled back by itself."},
}

// deployShape is deploy.yaml.
var deployShape = anObject(
	key{"pipeline", listOf(anObject(slices.Concat([]key{
		{"step", aText().matching(groupName), "", "`itest`, `itest-and-push-to-registry`, `security-check`, `performance-check`, `push-to-registry`, `command-…`, or a deploy group."},
		{"trigger_next_step_manually", aBool(), "false", "The pipeline waits for a person after this step."},
		{"wait_for_deployment", aBool(), "true", "The step is done only when the commit runs."},
	}, notifyKeys)...).needs("step")).items(1, 0), "", "The steps of a change on its way to production, in order."},
	key{"slack_channels", listOf(aText()), "[]", "Slack channels of the deployments."},
	key{"slack_notify", aBool(), "false", "Tell them about every step."},
	key{"production_deploy_group", aText().matching(groupName), "", "The deploy group that counts as production, e.g. for the test dependencies of others."},
).needs("pipeline").lenient()

// dependenciesShape is dependencies.yaml.
var dependenciesShape = mapOf(word, listOf(anObject(
	key{"well-known", oneOf("internet"), "", "`internet`: every address outside."},
	key{"smartstack", aText().matching(registration), "", "A registration."},
	key{"cidr", aText().matching(cidrText), "", "A network."},
	key{"port", eitherOf(aPort(), aText().matching(portRange)), "all", "A port, or `FIRST:LAST`."},
))).lenient()

// testDependencyShape is one entry of test-dependencies.yaml.
var testDependencyShape = anObject(
	key{"service", aText().matching(serviceName), "", "One of our services: the image that is marked for deployment runs as its soa-configs say."},
	key{"instance", aText().matching(instanceName), "the group's first", "Which of its instances."},
	key{"deploy_group", aText().matching(groupName), "its production_deploy_group", "Which of its deploy groups."},
	key{"commit", aText().matching(newPattern(`^[0-9a-f]{7,40}$`, "a commit (in quotes if it is all digits)")), "", "A commit in place of the marked one."},
	key{"build", aText().matching(anyPath), "", "A local checkout, built in place of a registry's image."},
	key{"with_dependencies", aBool(), "true", "Start its own test dependencies, too."},
	key{"image", aText().matching(image), "", "An image, for everything that is not one of our services."},
	key{"port", aPort(), "", "Port on which the image listens."},
	key{"cmd", aText().multiLine(), "the image's", "Command line for `/bin/sh -c`."},
	key{"args", listOf(aText().multiLine()), "none", "Arguments for the image's entrypoint."},
	key{"env", envShape, "{}", "Environment."},
	key{"volumes", listOf(aText().matching(hostPath)).uniqueItems(), "[]", "Paths in the container that are kept in memory."},
	key{"files", mapOf(anyPath, aText().matching(hostPath)), "{}", "Fixture, a file or directory of the service's repository or, for those who test with this service, of its directory in soa-configs → path in the container."},
	key{"ready", anObject(
		key{"http", aText().matching(uriPath), "", "A path that answers with 200."},
		key{"tcp", aBool(), "", "The port accepts connections."},
		key{"cmd", aText().multiLine(), "", "A command in the container that succeeds."},
		key{"log", aText(), "", "A regular expression that a line of its log matches."},
		key{"timeout_s", aNumber().over(0).upTo(3600), "60", "How long that may take."},
	), "tcp, if it has a port", "When it is ready."},
)

package paasta

// Paths of znodes below /paasta and /smartstack that more than one part uses.
// Registrations are below registry.Root.

// AgentsPath holds one ephemeral node a host that runs paasta smartstack; its
// data is an AgentNode.
const AgentsPath = "/smartstack/agents"

// LeaderPath holds the candidates of deployd's election; the leader's data is a
// LeaderNode.
func LeaderPath(cluster string) string { return "/paasta/" + cluster + "/leader" }

// DeploymentsPath is what deployd read from the tags of a service, in the
// shape of deployments.json.
func DeploymentsPath(cluster, service string) string {
	return "/paasta/" + cluster + "/deployments/" + service
}

// KickPath is a node whose creation means "look at this service again, now".
// deployd deletes it once it looks. A node that is there already is a kick that
// is still pending.
func KickPath(cluster, service string) string { return "/paasta/" + cluster + "/kick/" + service }

// KickFromHook is the data of a kick that a hook of the git server made: the
// repository then tells of its tags itself, and is polled less often. The kick
// of a command, which has none, says nothing of tags that others push.
const KickFromHook = "hook"

// DeployLogPath holds the latest lines of a service's deploy log, a JSON list of
// LogLine, oldest first, at most 200 lines.
func DeployLogPath(cluster, service string) string {
	return "/paasta/" + cluster + "/deploylog/" + service
}

// DeployedPath holds how the deploys of a service went: a JSON object, by deploy
// group a list of DeployRecord, oldest first, at most 50.
func DeployedPath(cluster, service string) string {
	return "/paasta/" + cluster + "/deployed/" + service
}

// DesiredSizePath holds the size that an operator or the autoscaler asked for,
// as decimal text.
func DesiredSizePath(cluster string, id InstanceID) string {
	return "/paasta/" + cluster + "/autoscaling/" + id.Service + "/" + id.Instance
}

// MaintenancePath holds one node a host that is being drained.
func MaintenancePath(cluster string) string { return "/paasta/" + cluster + "/maintenance" }

// ConfirmPath is a node by whose creation an operator says that the removals
// that deployd holds back for a service are right; ConfirmAll is for all
// services. deployd deletes it once it has heard.
func ConfirmPath(cluster, service string) string {
	return "/paasta/" + cluster + "/confirm/" + service
}

// ConfirmAll stands for all services in ConfirmPath.
const ConfirmAll = "_all"

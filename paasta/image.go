package paasta

// ImageName returns the name of the image of a service at a commit, relative
// to its registry: "services-<service>:paasta-<full sha>".
func ImageName(service, sha string) string { return "services-" + service + ":paasta-" + sha }

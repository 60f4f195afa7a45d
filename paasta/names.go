package paasta

import (
	"fmt"
	"strings"
)

// An InstanceID names one instance of a service in some cluster. Its text is
// "service.instance"; neither part contains a dot.
type InstanceID struct{ Service, Instance string }

// String returns "service.instance".
func (id InstanceID) String() string { return id.Service + "." + id.Instance }

// A Registration names a set of entries in the registry. Its text is
// "service.namespace".
type Registration struct{ Service, Namespace string }

// String returns "service.namespace".
func (r Registration) String() string { return r.Service + "." + r.Namespace }

// ParseRegistration reads "service.namespace".
func ParseRegistration(s string) (Registration, error) {
	service, namespace, ok := strings.Cut(s, ".")
	if !ok || service == "" || namespace == "" || strings.ContainsAny(namespace, "./") || strings.Contains(service, "/") {
		return Registration{}, fmt.Errorf("%q is no registration: want SERVICE.NAMESPACE", s)
	}
	return Registration{service, namespace}, nil
}

// BelongsTo tells whether a registration or a caller is a service's: called like it,
// or service.something.
func BelongsTo[T ~string | ~[]byte](name T, service string) bool {
	n := len(service)
	return len(name) >= n && string(name[:n]) == service && (len(name) == n || name[n] == '.')
}

// An AppID names a Marathon app of ours. Its text, in Marathon, is
// "service.instance.git<8>.config<8>" with every "_" written as "--".
type AppID struct {
	InstanceID
	Git    string // "git" and the first 8 characters of the commit
	Config string // "config" and 8 hex digits of the config hash
}

// String returns the id as Marathon knows it, without the leading slash.
func (id AppID) String() string {
	return strings.ReplaceAll(id.Service+"."+id.Instance+"."+id.Git+"."+id.Config, "_", "--")
}

// ParseAppID reads an app id, with or without the leading slash. Ids of other
// shapes, or inside groups, belong to others and are errors.
func ParseAppID(s string) (AppID, error) {
	parts := strings.Split(strings.ReplaceAll(strings.TrimPrefix(s, "/"), "--", "_"), ".")
	if len(parts) != 4 || strings.Contains(s[1:], "/") || parts[0] == "" || parts[1] == "" ||
		!strings.HasPrefix(parts[2], "git") || !strings.HasPrefix(parts[3], "config") {
		return AppID{}, fmt.Errorf("%q is no app of ours: want SERVICE.INSTANCE.git….config…", s)
	}
	return AppID{InstanceID{parts[0], parts[1]}, parts[2], parts[3]}, nil
}

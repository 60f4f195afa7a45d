package paasta

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// TagRefPrefix begins the refs of all our tags.
const TagRefPrefix = "refs/tags/paasta-"

// stampLayout is the time in a tag, UTC, in seconds.
const stampLayout = "20060102T150405"

// A TagKind says what a tag asks for.
type TagKind string

// The kinds. A start tag on what is started already is a restart.
const (
	TagDeploy TagKind = "deploy"
	TagStart  TagKind = "start"
	TagStop   TagKind = "stop"
)

// A Tag is one wish, written as a lightweight tag into the service's own
// repository: refs/tags/paasta-<target>-<time>-<kind>.
type Tag struct {
	Target string // deploy group, or "cluster.instance" of a start or stop
	Time   time.Time
	Kind   TagKind
	SHA    string // full commit that it points at
}

// InstanceTarget is the target of start and stop tags.
func InstanceTarget(cluster, instance string) string { return cluster + "." + instance }

// Ref returns the tag's full ref name.
func (t Tag) Ref() string { return TagRefPrefix + t.Target + "-" + t.Stamp() + "-" + string(t.Kind) }

// Stamp returns the time as the tag carries it, e.g. "20160809T105558".
func (t Tag) Stamp() string { return t.Time.UTC().Format(stampLayout) }

// Check says why git or ParseTag would not take the tag; nil when they do.
func (t Tag) Check() error {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\/`, r) }
	switch {
	case t.Target == "" || strings.ContainsFunc(t.Target, bad) || strings.Contains(t.Target, "..") || strings.Contains(t.Target, "@{"):
		return fmt.Errorf("%q cannot be part of a git tag: no spaces, control characters, \"..\", \"@{\", nor any of ~^:?*[\\/", t.Target)
	case t.Kind != TagDeploy && t.Kind != TagStart && t.Kind != TagStop:
		return fmt.Errorf("unknown kind of tag %q (known: deploy, start, stop)", t.Kind)
	case t.Time.UTC().Year() < 1 || t.Time.UTC().Year() > 9999:
		return fmt.Errorf("the year %d does not fit into a tag", t.Time.UTC().Year())
	case !IsSHA(t.SHA):
		return fmt.Errorf("%q is no full commit id", t.SHA)
	}
	return nil
}

// IsSHA tells full commit ids: 40 lower-case hex digits.
func IsSHA(s string) bool { return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == "" }

// ParseTag reads the name of a ref that points at sha. It reads from the right,
// so that a target may contain anything, dashes and times included, and no
// target is ever taken for another. Tags of other shapes are errors.
func ParseTag(ref, sha string) (Tag, error) {
	no := func(why string) (Tag, error) { return Tag{}, fmt.Errorf("%q is no tag of ours: %s", ref, why) }
	rest, ok := strings.CutPrefix(ref, TagRefPrefix)
	if !ok {
		return no("does not begin with " + TagRefPrefix)
	}
	i := strings.LastIndexByte(rest, '-')
	if i < 0 {
		return no("no kind at its end")
	}
	rest, kind := rest[:i], TagKind(rest[i+1:])
	if i = strings.LastIndexByte(rest, '-'); i < 0 {
		return no("no time")
	}
	at, err := time.Parse(stampLayout, rest[i+1:])
	if err != nil {
		return no("no time like " + stampLayout)
	}
	t := Tag{Target: rest[:i], Time: at, Kind: kind, SHA: sha}
	if t.Ref() != ref { // e.g. a time with fractions
		return no("no time like " + stampLayout)
	}
	if err := t.Check(); err != nil {
		return no(err.Error())
	}
	return t, nil
}

// A State is what start and stop tags ask of an instance.
type State struct {
	Desired string // "start" or "stop"
	// ForceBounce is the stamp of the tag that decided, "" when there is none. A
	// new one makes a new app, which is how a restart works.
	ForceBounce string
}

// A TagLog is the tags of one repository in the order of time.
type TagLog struct {
	deploys map[string][]Tag // by group, oldest first
	states  map[string][]Tag // by cluster.instance, oldest first
	newest  time.Time
}

// NewTagLog sorts tags; their order does not matter.
func NewTagLog(tags []Tag) *TagLog {
	l := &TagLog{deploys: map[string][]Tag{}, states: map[string][]Tag{}}
	tags = slices.Clone(tags)
	slices.SortFunc(tags, func(a, b Tag) int {
		// Stop after start: of two in one second, by whomever, the stop wins.
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Target, b.Target), cmp.Compare(a.SHA, b.SHA))
	})
	for _, t := range tags {
		if t.Kind == TagDeploy {
			l.deploys[t.Target] = append(l.deploys[t.Target], t)
		} else {
			l.states[t.Target] = append(l.states[t.Target], t)
		}
		l.newest = t.Time
	}
	return l
}

// Groups lists the deploy groups that were ever deployed, sorted.
func (l *TagLog) Groups() []string {
	groups := make([]string, 0, len(l.deploys))
	for group := range l.deploys {
		groups = append(groups, group)
	}
	slices.Sort(groups)
	return groups
}

// Latest returns the deploy tag that is in force for a group.
func (l *TagLog) Latest(group string) (Tag, bool) {
	tags := l.deploys[group]
	if len(tags) == 0 {
		return Tag{}, false
	}
	return tags[len(tags)-1], true
}

// Deploys returns the deploy tags of a group, newest first.
func (l *TagLog) Deploys(group string) []Tag {
	tags := slices.Clone(l.deploys[group])
	slices.Reverse(tags)
	return tags
}

// State returns what the tags ask of an instance whose deploy group is group.
//
// The rule: a start, stop or restart lasts until the next deploy of a different
// commit to the group. So a tag counts if it is not older than the deploy that
// brought the commit that is deployed now; deploying that same commit once more
// changes nothing. A rollback is a deploy: what was stopped while an older
// commit was deployed the first time does not come back with that commit.
func (l *TagLog) State(group, cluster, instance string) State {
	deploys, states := l.deploys[group], l.states[InstanceTarget(cluster, instance)]
	if len(deploys) == 0 || len(states) == 0 {
		return State{Desired: string(TagStart)}
	}
	first := len(deploys) - 1
	for first > 0 && deploys[first-1].SHA == deploys[first].SHA {
		first--
	}
	last := states[len(states)-1]
	if last.Time.Before(deploys[first].Time) {
		return State{Desired: string(TagStart)}
	}
	return State{Desired: string(last.Kind), ForceBounce: last.Stamp()}
}

// Next returns the time for new tags: now, or a second after the newest tag
// when that is later. So two wishes within a second both count, in their order,
// and no machine's clock can be so slow that its wish is lost. Tags that are
// made together may share it.
func (l *TagLog) Next(now time.Time) time.Time {
	now = now.UTC().Truncate(time.Second)
	if !l.newest.IsZero() && !now.After(l.newest) {
		return l.newest.Add(time.Second)
	}
	return now
}

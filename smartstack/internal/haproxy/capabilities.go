package haproxy

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A Version is a branch of HAProxy: 3.2 of 3.2.26-1. The zero Version is one that
// nobody knows, such as a build from its repository, and counts as the newest.
type Version struct{ Major, Minor int }

func (v Version) String() string {
	if v == (Version{}) {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Before tells whether v is older than other.
func (v Version) Before(other Version) bool {
	if v == (Version{}) || other == (Version{}) {
		return v != (Version{}) && other == (Version{})
	}
	return v.Major < other.Major || v.Major == other.Major && v.Minor < other.Minor
}

// Has tells whether HAProxy v has a capability.
func (v Version) Has(c *Capability) bool { return !v.Before(c.Since) }

// ParseVersion reads the branch of a version such as "2.6.12-1+deb12u4".
func ParseVersion(text string) Version {
	major, rest, _ := strings.Cut(text, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(rest)
	if err1 != nil || err2 != nil {
		return Version{}
	}
	return Version{a, b}
}

// Tested are the versions that the tests run with, see .ci/haproxy.
var Tested = []Version{{2, 6}, {3, 0}, {3, 2}, {3, 4}}

// Oldest is the first version that passes its listeners on, without which each
// reload would lose connections.
var Oldest = Version{1, 8}

// A Capability is what HAProxy has, or wants, from some version on. Everything
// that differs by version is one of these.
type Capability struct {
	Name  string
	Since Version
	Lost  string // what HAProxy before cannot, and what follows; "" for nothing that anybody would miss
	Note  string // what is done about it
}

// The capabilities, in the order of versions. Those that have no lost part and
// are asked for nowhere say why something is as it is on every version.
var (
	headerChecks = &Capability{
		Name: "checks with headers, answers made on purpose", Since: Version{2, 2},
		Lost: "cannot check by HTTP as PaaSTA does, or answer with a status on purpose: such namespaces are left out, and status names them",
		Note: "`http-check send`, `http-request return`",
	}
	pathTimeouts = &Capability{
		Name: "timeouts by path", Since: Version{2, 4},
		Lost: "has no timeouts by path: namespaces with endpoint_timeouts are left out, and status names them",
		Note: "`http-request set-timeout`",
	}
	atomicMaps = &Capability{
		Name: "maps replaced at run time", Since: Version{2, 4},
		Lost: "cannot replace maps at run time: which service calls from which address is only known from the next reload on",
		Note: "`prepare map`, `commit map`",
	}
	dynamicServers = &Capability{
		Name: "servers at run time", Since: Version{2, 6},
		Lost: "cannot add servers at run time: every change is a reload",
		Note: "`add server`, `del server`, with checks",
	}
	answersByLine = &Capability{
		Name: "one prompt a line in answers of the runtime API", Since: Version{3, 2},
		Note: "each command is a line of its own, on every version",
	}
	oneNameEach = &Capability{
		Name: "no frontend and backend of one name (3.2 warns of them)", Since: Version{3, 3},
		Note: "frontends are called `NAME:frontend` on every version; tools that read them by name find them there",
	}
	rootIsSaid = &Capability{
		Name: "warnings about a process that stays root, or is in no chroot", Since: Version{3, 3},
		Note: "`uid 0` and `chroot /` say that it is meant, on every version: it reaches the socket of the log, and the next process",
	}
	uncountedAnswers = &Capability{
		Name: "no bytes counted of answers that HAProxy makes itself", Since: Version{3, 4},
		Note: "no metric counts bytes; `bout` of the CSV page is smaller than before where there are faults or a cache",
	}
	unsafeViolations = &Capability{
		Name: "`option accept-unsafe-violations-in-http-request`", Since: Version{3, 1},
		Note: "before, the same is called `accept-invalid-http-request`",
	}
	luaBooleans = &Capability{
		Name: "`tune.lua.bool-sample-conversion`", Since: Version{3, 1},
		Note: "set, because HAProxy warns where it is not",
	}
)

// Capabilities are all of them.
var Capabilities = []*Capability{headerChecks, pathTimeouts, atomicMaps, dynamicServers, unsafeViolations, luaBooleans, answersByLine, oneNameEach, rootIsSaid, uncountedAnswers}

// Dynamic tells whether v adds and deletes servers at run time.
func (v Version) Dynamic() bool { return v.Has(dynamicServers) }

// AtomicMaps tells whether Runtime.ReplaceMap works with v.
func (v Version) AtomicMaps() bool { return v.Has(atomicMaps) }

// acceptInvalid is the option that lets requests pass which are not quite HTTP.
func (v Version) acceptInvalid() string {
	if v.Has(unsafeViolations) {
		return "accept-unsafe-violations-in-http-request"
	}
	return "accept-invalid-http-request"
}

// Lost says what v cannot, and what follows; nil when everything works.
func (v Version) Lost() []string {
	var lost []string
	for _, c := range Capabilities {
		if !v.Has(c) && c.Lost != "" {
			lost = append(lost, c.Lost)
		}
	}
	return lost
}

// Untested tells whether v is newer than all that was tested.
func (v Version) Untested() bool { return Tested[len(Tested)-1].Before(v) }

// Version asks the binary which version it is. The full text is e.g.
// "2.6.12-1+deb12u4".
func (p Process) Version(ctx context.Context) (v Version, full string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.Binary, "-v").Output()
	if err != nil {
		return Version{}, "", fmt.Errorf("%s -v: %w", p.Binary, err)
	}
	_, rest, ok := strings.Cut(string(out), "version ")
	if !ok {
		return Version{}, "", fmt.Errorf("%s -v: says %q, which is no HAProxy", p.Binary, out)
	}
	full, _, _ = strings.Cut(rest, " ")
	return ParseVersion(full), full, nil
}

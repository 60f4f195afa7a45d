// Command versions prints docs/reference/versions.md from the table of HAProxy's
// capabilities, or, with the argument "tested", the versions that tests run with.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

//go:generate sh -c "go run . > ../../../../docs/reference/versions.md"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "tested" {
		for _, v := range haproxy.Tested {
			fmt.Println(v)
		}
		return
	}
	fmt.Print(page())
}

func page() string {
	var b strings.Builder
	b.WriteString(`<!-- Written by "make generate" from smartstack/internal/haproxy/capabilities.go. -->
# Versions

Which HAProxy ` + "`paasta smartstack`" + ` works with. It asks once, by ` + "`haproxy -v`" + `, and says in its log, and in the status of the
agent, what does not work with the one that is there. "Tested" are those that all tests of the agent run with, each time:
` + "`make test HAPROXY=3.2`" + ` does it here, see [contributing](../contributing.md).

| part | version | tested | works | lost |
|---|---|---|---|---|
`)
	row := func(version, tested, works, lost string) {
		fmt.Fprintf(&b, "| HAProxy | %s | %s | %s | %s |\n", version, tested, works, lost)
	}
	row("before "+haproxy.Oldest.String(), "no", "no", "the agent does not start: a reload would lose connections")
	for _, r := range ranges() {
		var lost []string
		for _, text := range r.from.Lost() {
			lost = append(lost, "it "+text)
		}
		works := "everything"
		if len(lost) > 0 {
			works = "all but what is lost"
		}
		row(r.name(), map[bool]string{true: "yes", false: "no"}[r.tested()], works, strings.Join(lost, "; "))
	}
	fmt.Fprintf(&b, "| HAProxy | after %s | no | what worked before; the agent names the version once, when it starts | |\n", haproxy.Tested[len(haproxy.Tested)-1])
	b.WriteString(`
## What differs

| from | HAProxy has, or wants | here |
|---|---|---|
`)
	for _, c := range haproxy.Capabilities {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Since, c.Name, c.Note)
	}
	return b.String()
}

// A span is the versions from one to before another that have everything alike.
type span struct{ from, to haproxy.Version }

func (s span) tested() bool { return slices.Contains(haproxy.Tested, s.from) }

func (s span) name() string {
	if s.tested() {
		return s.from.String()
	}
	return "from " + s.from.String() + " to before " + s.to.String()
}

// ranges are all versions up to the newest that is tested, the oldest first.
func ranges() []span {
	begins := []haproxy.Version{haproxy.Oldest}
	for _, c := range haproxy.Capabilities {
		if c.Lost != "" {
			begins = append(begins, c.Since)
		}
	}
	begins = append(begins, haproxy.Tested...)
	slices.SortFunc(begins, func(a, b haproxy.Version) int {
		switch {
		case a.Before(b):
			return -1
		case b.Before(a):
			return 1
		}
		return 0
	})
	begins = slices.Compact(begins)
	var all []span
	for i, v := range begins {
		s := span{from: v}
		if i+1 < len(begins) {
			s.to = begins[i+1]
		}
		all = append(all, s)
	}
	return all
}

package api

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const word = `((?:[\w.-]|\\.)+)`

var (
	term   = regexp.MustCompile(`^\s*` + word + `\s*(?:(==|!=)\s*` + word + `|(in|notin)\s*\(\s*(` + word + `(?:\s*,\s*` + word + `)*)\s*\))?\s*(,|$)`)
	words  = regexp.MustCompile(word)
	escape = regexp.MustCompile(`\\(.)`)
)

// parseSelector reads a label selector: terms with commas between them, each
// key, key==v, key!=v, key in (a, b) or key notin (a, b). "!=" and "notin" only
// match where there is such a label. A backslash takes what follows it as it is.
func parseSelector(text string) (func(map[string]string) bool, error) {
	var terms []func(map[string]string) bool
	for more := true; more; {
		m := term.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("want key, key==value, key!=value, key in (a, b) or key notin (a, b) at %q", text)
		}
		key, op := unescape(m[1]), m[2]+m[4]
		var values []string
		for _, v := range words.FindAllString(m[3]+m[5], -1) {
			values = append(values, unescape(v))
		}
		terms = append(terms, func(labels map[string]string) bool {
			v, ok := labels[key]
			wanted := op == "==" || op == "in"
			return ok && (op == "" || slices.Contains(values, v) == wanted)
		})
		text, more = text[len(m[0]):], strings.HasSuffix(m[0], ",")
	}
	return func(labels map[string]string) bool {
		return !slices.ContainsFunc(terms, func(t func(map[string]string) bool) bool { return !t(labels) })
	}, nil
}

func unescape(s string) string { return escape.ReplaceAllString(s, "$1") }

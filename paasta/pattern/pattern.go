// Package pattern matches attributes of agents against the regular expressions of
// constraints. Marathon reads them as Java does, and PaaSTA as Python: with
// lookaheads and the like, which Go's own do not have. Those go to regexp2.
package pattern

import (
	"regexp"
	"time"

	"github.com/dlclark/regexp2"
)

// Matches tells whether all of value matches the regular expression. One that
// takes longer than a second does not; the error is of one that is none.
func Matches(expression, value string) (bool, error) {
	whole := "^(?:" + expression + ")$"
	if re, err := regexp.Compile(whole); err == nil {
		return re.MatchString(value), nil
	}
	re, err := regexp2.Compile(whole, regexp2.None)
	if err != nil {
		return false, err
	}
	re.MatchTimeout = time.Second
	ok, err := re.MatchString(value)
	return ok && err == nil, nil
}

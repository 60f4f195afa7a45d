package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/spelling"
)

// nearest returns up to five of known that name may be a slip of, the nearest
// first.
func nearest(name string, known []string) []string {
	type guess struct {
		name string
		far  int
	}
	var guesses []guess
	for _, k := range known {
		far := spelling.Distance(strings.ToLower(name), strings.ToLower(k))
		// A third of the letters may be wrong; a beginning is a guess as well.
		if far <= max(1, max(len(name), len(k))/3) || (len(name) >= 3 && strings.HasPrefix(k, name)) {
			guesses = append(guesses, guess{k, far})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var names []string
	for _, g := range guesses[:min(5, len(guesses))] {
		names = append(names, g.name)
	}
	return names
}

// didYouMean returns ` (did you mean "a" or "b"?)`, or nothing.
func didYouMean(name string, known []string) string {
	guesses := nearest(name, known)
	if len(guesses) == 0 {
		return ""
	}
	for i, g := range guesses {
		guesses[i] = fmt.Sprintf("%q", g)
	}
	return " (did you mean " + strings.Join(guesses, " or ") + "?)"
}

// unknown is the error for a name that is not among known: kind is a noun such
// as "service", where says where it was looked for. Without a near name the
// hint lists what is there, if that is short.
func unknown(kind, name, where string, known []string) error {
	guess := didYouMean(name, known)
	err := fmt.Errorf("no %s %q in %s%s", kind, name, where, guess)
	if guess != "" || len(known) == 0 || len(known) > 10 {
		return err
	}
	return command.WithHint(err, "one of: "+strings.Join(slices.Sorted(slices.Values(known)), ", "))
}

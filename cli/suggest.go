package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/command"
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
		far := distance(strings.ToLower(name), strings.ToLower(k))
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

// distance counts the letters to insert, delete, change, or swap with their
// neighbour to get from a to b.
func distance(a, b string) int {
	older, old := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range old {
		old[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, old = old, row
	}
	return old[len(b)]
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

// Package spelling guesses which known word a misspelled one may have meant.
package spelling

import (
	"fmt"
	"strings"
)

// Suggest returns ` (did you mean "x"?)` when a known word is near, else "".
func Suggest(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

// Nearest returns the known word that word is most likely a misspelling of, or "".
func Nearest(word string, known []string) string {
	if len(word) > 100 {
		return ""
	}
	best, least := "", len(word)
	for _, k := range known {
		if len(k) > len(word)+3 || len(word) > len(k)+3 {
			continue
		}
		if d := Distance(word, k); d <= 1+min(len(word), len(k))/4 && d < least {
			best, least = k, d
		}
	}
	return best
}

// Misspelled is Nearest for places where unknown words are welcome: it returns
// only a word that was surely meant, or "".
func Misspelled(word string, known []string) string {
	fold := strings.NewReplacer("-", "", "_", "")
	for _, k := range known {
		if strings.EqualFold(fold.Replace(word), fold.Replace(k)) {
			return k
		}
	}
	if len(word) >= 5 && strings.Trim(word, "0123456789") == word {
		if near := Nearest(word, known); near != "" && Distance(word, near) == 1 {
			return near
		}
	}
	return ""
}

// Distance is how many bytes to change, add, drop, or swap with their neighbour
// it takes to get from a to b.
func Distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

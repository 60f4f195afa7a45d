package soaconfig

import "strings"

// nearest returns the known word that got is most likely a misspelling of, or "".
func nearest(got string, known []string) string {
	if len(got) > 100 {
		return ""
	}
	best, least := "", len(got)
	for _, k := range known {
		if abs(len(k)-len(got)) > 3 {
			continue
		}
		allowed := 1 + min(len(got), len(k))/4
		if d := distance(got, k); d <= allowed && d < least {
			best, least = k, d
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// distance is the number of letters to change, add, drop or swap to get from a
// to b.
func distance(a, b string) int {
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

// misspelled is nearest for places where unknown words are welcome: it returns
// only a word that got surely meant, or "".
func misspelled(got string, known []string) string {
	fold := strings.NewReplacer("-", "", "_", "")
	for _, k := range known {
		if strings.EqualFold(fold.Replace(got), fold.Replace(k)) {
			return k
		}
	}
	if len(got) >= 5 && strings.Trim(got, "0123456789") == got {
		if near := nearest(got, known); near != "" && distance(got, near) == 1 {
			return near
		}
	}
	return ""
}

package bounce

import "fmt"

// plural says how many there are of a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// stay says how many of a noun stay.
func stay(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " stays"
	}
	return plural(n, noun) + " stay"
}

// run says how many tasks run.
func run(n int) string {
	if n == 1 {
		return "1 task runs"
	}
	return plural(n, "task") + " run"
}

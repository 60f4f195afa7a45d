package soaconfig

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Long files, written to be slow to read. What is not linear in their length
// takes minutes; what is, a second, or some with a race detector on a busy machine.
func TestEvilFilesAreReadInTime(t *testing.T) {
	fill := func(unit string) string { return strings.Repeat(unit, maxFile/4/len(unit)) }
	var keys strings.Builder
	for i := range 5_000 {
		keys.WriteString("k" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i%11) + ": 1\n  ")
	}
	for name, text := range map[string]string{
		"flow lists":      "main: {args: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"many flow lists": "main: {args: [" + fill("[],") + "]}",
		"many keys":       fill("a: 1\n"),
		"many entries":    "main:\n  " + keys.String(),
		"long key":        fill("a") + ": 1",
		"long text":       "main: {cmd: \"" + fill("\\n") + "\"}",
		"dashes":          fill("- "),
		"question marks":  fill("? "),
		"anchors":         fill("- &a x\n"),
		"merges":          "_a: &a {" + numbered("k%d: 1, ", 2000) + "}\n" + numbered("e%d: {<<: [*a, *a, *a]}\n", 5_000),
		"merge chain":     "e0: &e0 {a: 1}\n" + chain(4_000),
		"aliases":         "_a: &a [" + numbered("%d, ", 10_000) + "]\nmain: {args: [" + strings.Repeat("*a, ", 10_000) + "]}",
		"unique":          "main: {registrations: [" + strings.Repeat("a.b, ", 20_000) + "]}",
		"quotes":          fill("'"),
		"brackets":        fill("{a: "),
		"tabs":            fill("\t"),
		"comments":        "main: {}\n" + fill("#"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "web/marathon-norcal.yaml", text[:min(len(text), maxFile)])
			started := time.Now()
			s, err := LoadService(dir, "web", Options{})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(started)
			if took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			first := "none"
			if len(s.Problems) > 0 {
				first = s.Problems[0].String()
			}
			t.Logf("%s, %d problems, first %.200s", took.Round(time.Millisecond), len(s.Problems), first)
		})
	}
}

// numbered repeats a format with numbers from 0 to n-1.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// chain is n mappings that each merge the one before and add a key.
func chain(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "e%d: &e%d {<<: *e%d, k%d: 1}\n", i, i, i-1, i)
	}
	return b.String()
}

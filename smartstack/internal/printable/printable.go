// Package printable makes text from outside (a check's output, a znode) fit to be
// shown in a line.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns text as one line of at most longest bytes, and a mark where more
// of it is left out. Line breaks and tabs become spaces; what a terminal would
// obey (control characters, those that change the direction of text) and bytes
// that are no UTF-8 are written as escapes.
func Line(text string, longest int) string {
	const cut = "…"
	var b strings.Builder
	blank := false
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		if unicode.IsSpace(r) {
			blank = b.Len() > 0
			continue
		}
		next := text[i : i+size]
		switch {
		case r == utf8.RuneError && size <= 1:
			next = fmt.Sprintf(`\x%02x`, text[i])
		case !unicode.IsPrint(r) && r < 0x80:
			next = fmt.Sprintf(`\x%02x`, r)
		case !unicode.IsPrint(r):
			next = fmt.Sprintf(`\u%04x`, r)
		}
		if blank {
			next = " " + next
		}
		blank = false
		if b.Len()+len(next) > longest {
			b.WriteString(cut)
			break
		}
		b.WriteString(next)
	}
	return b.String()
}

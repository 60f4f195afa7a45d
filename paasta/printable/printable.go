// Package printable makes text from outside (a task's or a check's output, a
// znode) fit to be shown.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns text with escapes for what a terminal would obey: control
// characters, those that change the direction of text, and bytes that are no
// UTF-8. Tabs and colours pass.
func Text(text string) string {
	var b strings.Builder
	for i, size := 0, 0; i < len(text); i += size {
		if size = colour(text[i:]); size > 0 {
			b.WriteString(text[i : i+size])
			continue
		}
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		obeyed := r != '\t' && unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
		b.WriteString(shown(text[i:i+size], r, obeyed))
	}
	return b.String()
}

// Line returns text as one line of at most longest bytes, and a mark where more
// of it is left out. Line breaks and tabs become spaces; all that is not
// printable is written as escapes, colours too.
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
		next := shown(text[i:i+size], r, !unicode.IsPrint(r))
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

// shown returns the text of one rune, or its escape.
func shown(text string, r rune, escape bool) string {
	switch {
	case r == utf8.RuneError && len(text) <= 1:
		return fmt.Sprintf(`\x%02x`, text[0])
	case escape && r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case escape:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return text
}

// colour is the length of the colour sequence that s begins with, 0 for none.
func colour(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case c == 'm':
			return i + 1
		case c != ';' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}

package haproxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// quote returns s as one word of a config line, whatever is in it. Validate
// refuses control characters; if one came here all the same it becomes a space,
// so that no text can ever end its line.
func quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			b.WriteByte(' ')
		case c == '"' || c == '\\' || c == '$':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// quoteFormat is quote for words that HAProxy reads as a log-format, where "%"
// begins a variable.
func quoteFormat(s string) string { return quote(strings.ReplaceAll(s, "%", "%%")) }

// word returns s where a bare word must stand: a name, checked by Validate.
// What does not belong there becomes "-".
func word(s string) string {
	if isName(s) {
		return s
	}
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x80 && isNameByte(byte(r)) {
			return r
		}
		return '-'
	}, s)
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == ':'
}

// IsName tells whether s is letters, digits and -_.: only, so that it can stand
// anywhere without a quote.
func IsName(s string) bool { return isName(s) }

// isName tells whether HAProxy takes s as the name of a proxy or server.
func isName(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return true
}

// ms returns d as HAProxy writes times, at least one millisecond.
func ms(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) + "ms" }

// percent returns p, a share of 100, in ten-thousandths.
func percent(p float64) int { return int(min(max(p, 0), 100) * 100) }

// printable says why s must not stand in a config, or nil.
func printable(s string, longest int) error {
	if len(s) > longest {
		return fmt.Errorf("is %d bytes long, more than %d", len(s), longest)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return fmt.Errorf("has a control character at byte %d", i)
		}
	}
	return nil
}

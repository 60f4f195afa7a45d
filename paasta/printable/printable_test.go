package printable

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "",
		"disk is full\n":            "disk is full",
		"  a\n\n\tb\r\nc  ":         "a b c",
		"\x1b[31mred\x1b[0m":        `\x1b[31mred\x1b[0m`,
		"\x1b]0;title\a":            `\x1b]0;title\x07`,
		"\x00\x7f":                  `\x00\x7f`,
		"a\u202eb\u2066":            `a\u202eb\u2066`,
		"\u009b31m":                 `\u009b31m`,
		"\xff\xfe":                  `\xff\xfe`,
		"größer 日本":                 "größer 日本",
		"a\u200bb":                  `a\u200bb`,
		strings.Repeat("x", 40):     strings.Repeat("x", 30) + "…",
		strings.Repeat("日", 11):     strings.Repeat("日", 10) + "…",
		strings.Repeat("\x00", 100): strings.Repeat(`\x00`, 7) + "…",
	} {
		if got := Line(text, 30); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain\ttext":              "plain\ttext",
		"\x1b[31mred\x1b[0m":       "\x1b[31mred\x1b[0m",
		"\x1b]0;title\x07 \x1b[2J": `\x1b]0;title\x07 \x1b[2J`,
		"\u009b2J\x9b2J":           `\u009b2J\x9b2J`,
		"back\rover":               `back\x0dover`,
		"a\u2028b":                 `a\u2028b`,
		"grüße, 👨\u200d👩\u200d👧":   "grüße, 👨\u200d👩\u200d👧",
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for _, r := range "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" {
		if got, want := Text("a"+string(r)+"b"), fmt.Sprintf(`a\u%04xb`, r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b[31m\u202e\xff\n b", 10)
	f.Fuzz(func(t *testing.T, text string, longest int) {
		longest = min(max(longest, 0), 1000)
		got := Line(text, longest)
		if len(got) > longest+len("…") || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x1b\x00\u202e") {
			t.Errorf("%q: %q", text, got)
		}
	})
}

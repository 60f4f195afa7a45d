package soaconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Class says what a problem does to what it is about.
type Class uint8

const (
	// Broken is what cannot run: nobody knows what is meant, or Marathon or
	// HAProxy would refuse it. What runs already stays as it is.
	Broken Class = iota
	// Wrong is a mistake that validate fails for and that stops nothing: the rest
	// of the file holds, and the key counts as absent unless the text says more.
	Wrong
	// Note is no mistake: a key that does nothing, or that PaaSTA reads otherwise.
	Note
)

var classes = [...]string{Broken: "broken", Wrong: "wrong", Note: "note"}

// String returns "broken", "wrong" or "note".
func (c Class) String() string { return classes[c] }

// MarshalText is String.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (c *Class) UnmarshalText(text []byte) error {
	i := slices.Index(classes[:], string(text))
	if i < 0 {
		return fmt.Errorf("%q is no class of problems (known: %s)", text, strings.Join(classes[:], ", "))
	}
	*c = Class(i)
	return nil
}

// A Problem is one mistake and its place.
type Problem struct {
	Class  Class  `json:"class"`
	File   string `json:"file"`           // path as the caller would open it
	Line   int    `json:"line,omitempty"` // 1-based; 0 when the file as a whole is meant
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"` // dotted path in the file
	Text   string `json:"text"`          // what is wrong, with a suggestion if there is one
}

// String returns "file:line:column: key: text".
func (p Problem) String() string { return p.line("") }

// ClassLine returns "file:line:column: class: key: text", which editors know from
// compilers.
func (p Problem) ClassLine() string { return p.line(": " + p.Class.String()) }

// Place returns "file:line:column".
func (p Problem) Place() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
	return p.File
}

func (p Problem) line(class string) string {
	s := p.Place() + class
	if p.Key != "" {
		s += ": " + p.Key
	}
	return strings.Map(visible, s+": "+p.Text)
}

// visible replaces control characters: a problem is one line, and what a file
// says must not move anybody's cursor.
func visible(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '\uFFFD'
	}
	return r
}

// Problems is every mistake of something, in file and line order. It is an
// error when not empty.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns p as an error, nil when there is none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Of returns those of a class.
func (p Problems) Of(c Class) Problems {
	var some Problems
	for _, problem := range p {
		if problem.Class == c {
			some = append(some, problem)
		}
	}
	return some
}

// sorted puts problems in the order of files, lines and columns, each once.
func (p Problems) sorted() Problems {
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Key, b.Key), strings.Compare(a.Text, b.Text), cmp.Compare(a.Class, b.Class))
	})
	return slices.Compact(p)
}

package soaconfig

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxSteps bounds how many values one file may have once its aliases are
// expanded: a thousand lines of aliases can stand for more than there are atoms.
const maxSteps = 200_000

// A checker walks values beside shapes and collects what does not fit.
type checker struct {
	path     []string
	steps    int
	exceeded bool // it said that there are too many steps
	problems Problems
}

// maxProblems bounds what is said about one entry, or about one file as such.
const maxProblems = 100

// at reports text about the value at v under the current path and more.
func (c *checker) at(v *value, text string, more ...string) {
	switch n := len(c.problems); {
	case n == maxProblems:
		text, more, c.exceeded, c.steps = "and so on: further mistakes are not shown", nil, true, maxSteps
	case n > maxProblems:
		return
	}
	c.problems = append(c.problems, Problem{
		File: v.file, Line: int(v.line), Column: int(v.column),
		Key: dotted(append(slices.Clone(c.path), more...)), Text: text,
	})
}

// dotted is a path in a file, as a Problem has it.
func dotted(path []string) string {
	for i, name := range path {
		if r := []rune(name); len(r) > 80 {
			path[i] = string(r[:77]) + "..."
		}
	}
	return strings.Join(path, ".")
}

// check reports whatever keeps v from having shape s. at is the place to name:
// the key, or v itself in a list.
func (c *checker) check(at, v *value, s *shape) {
	if c.steps++; c.steps >= maxSteps {
		if !c.exceeded {
			c.exceeded = true // what follows is not checked, and must not pass for sound
			c.at(at, fmt.Sprintf("the aliases of this file stand for more than %d values", maxSteps))
		}
		return
	}
	switch {
	case v.kind == bad:
		c.at(v, v.text)
		return
	case v.kind == null && s.nullable:
		return
	case s.either != nil:
		for _, alternative := range s.either {
			if alternative.takes(v) {
				c.check(at, v, alternative)
				return
			}
		}
		c.at(at, "is "+v.describe()+", want "+s.describe())
		return
	case s.anyKind:
		c.inside(v)
		return
	case !s.takes(v):
		hint := ""
		if s.kind == text && v.kind != list && v.kind != object && v.kind != null {
			hint = ": put it in quotes"
		}
		c.at(at, "is "+v.describe()+", want "+s.describe()+hint)
		return
	}
	switch s.kind {
	case text:
		c.checkText(at, v, s)
	case integer, number:
		c.checkNumber(at, v, s)
	case list:
		c.checkList(at, v, s)
	case object:
		c.checkObject(at, v, s)
	}
}

// inside looks for values that cannot be understood in one of any shape.
func (c *checker) inside(v *value) {
	c.faults(v)
	for _, item := range v.items {
		c.check(item, item, anyShape)
	}
	for _, f := range v.fields {
		c.path = append(c.path, f.key.text)
		c.check(f.key, f.value, anyShape)
		c.path = c.path[:len(c.path)-1]
	}
}

var anyShape = anything()

func (c *checker) faults(v *value) {
	for _, f := range v.faults {
		if f.name == "" {
			c.at(f.at, f.text)
		} else {
			c.at(f.at, f.text, f.name)
		}
	}
}

// takes tells whether v is of the kind that s wants.
func (s *shape) takes(v *value) bool {
	switch {
	case s.anyKind:
		return true
	case s.kind == number:
		return v.kind == number || v.kind == integer
	case s.kind == boolean && v.kind == text && v.plain:
		return isWord(v.text, yesWords) || isWord(v.text, noWords)
	}
	return v.kind == s.kind
}

// describe says what s wants, for people.
func (s *shape) describe() string {
	if s.either != nil {
		all := make([]string, len(s.either))
		for i, alternative := range s.either {
			all[i] = alternative.describe()
		}
		return strings.Join(all, " or ")
	}
	switch s.kind {
	case text:
		if len(s.enum) > 0 {
			return "one of " + strings.Join(s.enum, ", ")
		}
		return "a text"
	case integer:
		return "an integer"
	case number:
		return "a number"
	case boolean:
		return "true or false"
	case list:
		return "a list"
	}
	return "an object"
}

func (c *checker) checkText(at, v *value, s *shape) {
	if len(s.enum) > 0 {
		if !slices.Contains(s.enum, v.text) {
			c.at(at, unknownValue(v.text, s.enum))
		}
		return
	}
	if p := s.textPattern(); !p.re.MatchString(v.text) {
		c.at(at, "is "+quote(v.text)+", want "+p.want)
	}
}

// unknownValue is the text about a word that is none of the known ones.
func unknownValue(got string, known []string) string {
	text := "unknown value " + quote(got) + " (known: " + strings.Join(known, ", ")
	if near := nearest(got, known); near != "" {
		return text + "; did you mean " + quote(near) + "?)"
	}
	return text + ")"
}

func (s *shape) textPattern() *pattern {
	switch {
	case s.pattern != nil:
		return s.pattern
	case s.multiline:
		return someLines
	}
	return noControls
}

func (c *checker) checkNumber(at, v *value, s *shape) {
	switch n := v.number; {
	case s.min != nil && s.above && n <= *s.min:
		c.at(at, "is "+v.text+", want more than "+decimal(*s.min))
	case s.min != nil && n < *s.min:
		c.at(at, "is "+v.text+", want at least "+decimal(*s.min))
	case s.max != nil && n > *s.max:
		c.at(at, "is "+v.text+", want at most "+decimal(*s.max))
	}
}

// decimal is a number without an exponent.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (c *checker) checkList(at, v *value, s *shape) {
	if n := len(v.items); n < s.least || s.most > 0 && n > s.most {
		want := fmt.Sprint(s.least)
		switch {
		case s.most == 0:
			want = fmt.Sprintf("at least %d", s.least)
		case s.most != s.least:
			want = fmt.Sprintf("%d to %d", s.least, s.most)
		}
		c.at(at, fmt.Sprintf("has %d items, want %s", n, want))
		return
	}
	seen := map[string]bool{}
	for i, item := range v.items {
		elem := s.elem
		if s.tuple != nil {
			elem = s.tuple[min(i, len(s.tuple)-1)]
		}
		c.check(item, item, elem)
		if !s.unique {
			continue
		}
		same := item.canonical(&c.steps)
		if seen[same] {
			c.at(item, "is in the list twice")
		}
		seen[same] = true
	}
}

func (c *checker) checkObject(at, v *value, s *shape) {
	c.faults(v)
	for i := range v.fields {
		f := &v.fields[i]
		c.path = append(c.path, f.key.text)
		if s.names != nil {
			if !s.names.re.MatchString(f.key.text) {
				c.at(f.key, "is no name that may stand here: want "+s.names.want)
			} else {
				c.check(f.key, f.value, s.elem)
			}
		} else if known := s.byName[f.key.text]; known != nil {
			c.check(f.key, f.value, known)
		} else {
			c.unknown(f, s)
		}
		c.path = c.path[:len(c.path)-1]
	}
	for _, name := range s.required {
		if v.find(name) == nil {
			c.at(at, "lacks "+name)
		}
	}
}

// unknown reports a key that s does not have. In an open object only what looks
// like a misspelled key is wrong.
func (c *checker) unknown(f *field, s *shape) {
	near := nearest(f.key.text, s.keyNames())
	if s.open {
		near = misspelled(f.key.text, s.keyNames())
	}
	switch {
	case near != "":
		c.at(f.key, fmt.Sprintf("unknown key (did you mean %q?)", near))
	case s.open:
		c.inside(f.value)
	default:
		c.at(f.key, "unknown key")
	}
}

func (s *shape) keyNames() []string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.name
	}
	return names
}

// canonical is a text that two values share if and only if they are equal.
func (v *value) canonical(steps *int) string {
	if *steps++; *steps >= maxSteps {
		return fmt.Sprint(*steps) // equal to nothing; check reports the excess
	}
	switch v.kind {
	case list:
		var b strings.Builder
		for _, item := range v.items {
			b.WriteString(item.canonical(steps) + ",")
		}
		return "[" + b.String() + "]"
	case object:
		all := make([]string, len(v.fields))
		for i, f := range v.fields {
			all[i] = fmt.Sprintf("%q:%s", f.key.text, f.value.canonical(steps))
		}
		slices.Sort(all)
		return "{" + strings.Join(all, ",") + "}"
	case text:
		return fmt.Sprintf("%q", v.text)
	case integer, number, boolean:
		return fmt.Sprint(v.kind == boolean, v.number)
	}
	return "null"
}

// passes tells whether v fits s.
func passes(v *value, s *shape) bool {
	c := &checker{}
	c.check(v, v, s)
	return len(c.problems) == 0
}

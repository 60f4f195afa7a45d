package soaconfig

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// maxSteps bounds how many values one file may have once its aliases are
// expanded: a thousand lines of aliases can stand for more than there are atoms.
const maxSteps = 200_000

// A checker walks values beside shapes and collects what does not fit.
type checker struct {
	path     []string
	steps    int
	exceeded bool  // it said that there are too many steps
	class    Class // of what is found where we are
	count    [len(classes)]int
	problems Problems
}

// maxProblems bounds what is said about one entry, or about one file as such,
// in each class.
const maxProblems = 100

// wrong reports what stops nothing.
func (c *checker) wrong(v *value, text string, more ...string) {
	before := c.class
	c.class = max(before, Wrong)
	c.at(v, text, more...)
	c.class = before
}

// noted reports what is no mistake.
func (c *checker) noted(v *value, text string, more ...string) {
	before := c.class
	c.class = Note
	c.at(v, text, more...)
	c.class = before
}

// asText notes where a value of one of several kinds is used as written, and
// PaaSTA uses Python's text for what it reads.
func (c *checker) asText(at, v *value, s *shape) {
	takesText := slices.ContainsFunc(s.either, func(a *shape) bool { return a.kind == text && !a.anyKind })
	if p := v.pyyaml(); takesText && p.kind != text && p.kind != null && p.text != v.text && v.kind != list && v.kind != object {
		c.noted(at, "PaaSTA reads this as "+p.text+": put it in quotes")
	}
}

// at reports text about the value at v under the current path and more.
func (c *checker) at(v *value, text string, more ...string) {
	c.count[c.class]++
	switch n := c.count[c.class]; {
	case n == maxProblems+1:
		text, more = "and so on: further mistakes are not shown", nil
		if c.class == Broken {
			c.exceeded, c.steps = true, maxSteps
		}
	case n > maxProblems:
		return
	}
	c.problems = append(c.problems, v.problem(c.class, dotted(append(slices.Clone(c.path), more...)), text))
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

// check reports whatever keeps v from having shape s, and returns what of v has
// it: v itself, a copy without what does not fit, or nil. at is the place to
// name: the key, or v itself in a list.
func (c *checker) check(at, v *value, s *shape) *value {
	if s.isLenient && c.class == Broken {
		c.class = Wrong
		defer func() { c.class = Broken }()
	}
	if c.steps++; c.steps >= maxSteps {
		if !c.exceeded {
			c.exceeded, c.class = true, Broken // what follows is not checked, and must not pass for sound
			c.at(at, fmt.Sprintf("the aliases of this file stand for more than %d values", maxSteps))
		}
		return nil
	}
	switch {
	case v.kind == bad:
		c.at(v, v.text)
		return nil
	case s.reserved:
		c.at(at, "is reserved: this version does not know what to do with it, and must not go on without it")
		return nil
	case v.kind == null && s.nullable:
		return v
	case s.orEmpty && v.kind == list && len(v.items) == 0:
		return v
	case s.either != nil:
		for _, exact := range []bool{true, false} {
			for _, alternative := range s.either {
				if alternative.takes(v) && (!exact || alternative.kind == v.kind || alternative.kind == number && v.kind == integer) {
					if alternative.kind != text { // which says so itself
						c.asText(at, v, s)
					}
					return c.check(at, v, alternative)
				}
			}
		}
		c.at(at, "is "+v.describe()+", want "+s.describe())
		return nil
	case s.anyKind:
		return c.inside(v)
	case !s.takes(v):
		hint := ""
		if p := v.pyyaml(); v.kind == text && (s.kind == integer || s.kind == number) && (p.kind == integer || p.kind == number) {
			hint = " (PaaSTA reads this as " + p.text + ")"
		}
		c.at(at, "is "+v.describe()+", want "+s.describe()+hint)
		return nil
	}
	fits := true
	switch s.kind {
	case boolean:
		if v.kind == text {
			if v.pyyaml().kind == text {
				c.wrong(at, "PaaSTA reads this as the text "+quote(v.text)+": write true or false")
			}
			word := *v
			word.kind, word.number = boolean, 0
			if isWord(v.text, yesWords) {
				word.number = 1
			}
			return &word
		}
	case text:
		if v.kind != text {
			asText := *v
			asText.kind, asText.items, asText.fields = text, nil, nil
			v = &asText
		}
		if text := v.otherwise(); text != "" && len(s.enum) == 0 {
			c.noted(at, text)
		}
		fits = c.checkText(at, v, s)
	case integer, number:
		fits = c.checkNumber(at, v, s)
	case list:
		return c.checkList(at, v, s)
	case object:
		return c.checkObject(at, v, s)
	}
	if !fits {
		return nil
	}
	return v
}

// inside looks for values that cannot be understood in one of any shape.
func (c *checker) inside(v *value) *value {
	fits := c.faults(v)
	for _, item := range v.items {
		fits = c.check(item, item, anyShape) != nil && fits
	}
	for _, f := range v.fields {
		c.path = append(c.path, f.key.text)
		fits = c.check(f.key, f.value, anyShape) != nil && fits
		c.path = c.path[:len(c.path)-1]
	}
	if !fits {
		return nil
	}
	return v
}

var anyShape = anything()

// faults reports what is wrong with the keys of v, and tells whether v can be
// used all the same.
func (c *checker) faults(v *value) bool {
	fits := true
	for _, f := range v.faults {
		report := c.at
		if f.class == Wrong {
			report = c.wrong
		} else {
			fits = false
		}
		if f.name == "" {
			report(f.at, f.text)
		} else {
			report(f.at, f.text, f.name)
		}
	}
	return fits
}

// takes tells whether v is of the kind that s wants.
func (s *shape) takes(v *value) bool {
	switch {
	case s.anyKind:
		return true
	case s.kind == number:
		return v.kind == number || v.kind == integer
	case s.kind == text: // as it is written
		return v.kind == text || v.kind == integer || v.kind == number || v.kind == boolean
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

func (c *checker) checkText(at, v *value, s *shape) bool {
	if len(s.enum) > 0 {
		known := slices.Contains(s.enum, v.text)
		if !known {
			c.at(at, unknownValue(v.text, s.enum))
		}
		return known
	}
	p := s.textPattern()
	fits := p.re.MatchString(v.text)
	if !fits {
		c.at(at, "is "+quote(v.text)+", want "+p.want)
	}
	return fits
}

// unknownValue is the text about a word that is none of the known ones.
func unknownValue(got string, known []string) string {
	text := "unknown value " + quote(got) + " (known: " + strings.Join(known, ", ")
	if near := spelling.Nearest(got, known); near != "" {
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

func (c *checker) checkNumber(at, v *value, s *shape) bool {
	switch p := v.pyyaml(); {
	case !v.plain:
	case p.kind != integer && p.kind != number:
		c.wrong(at, "PaaSTA reads this as the text "+quote(v.text)+": write "+decimal(v.number))
	case p.number != v.number:
		c.wrong(at, "is "+decimal(v.number)+", and PaaSTA reads it as "+p.text+": write it without a leading 0")
	}
	if whole := math.Ceil(v.number); s.whole != "" && whole != v.number {
		c.wrong(at, "is "+v.text+": "+s.whole+", so "+decimal(whole)+" is used")
	}
	switch n := v.number; {
	case s.min != nil && s.above && n <= *s.min:
		c.at(at, "is "+v.text+", want more than "+decimal(*s.min))
	case s.min != nil && n < *s.min:
		c.at(at, "is "+v.text+", want at least "+decimal(*s.min))
	case s.max != nil && n > *s.max:
		c.at(at, "is "+v.text+", want at most "+decimal(*s.max))
	default:
		return true
	}
	return false
}

// decimal is a number without an exponent.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (c *checker) checkList(at, v *value, s *shape) *value {
	if n := len(v.items); n < s.least || s.most > 0 && n > s.most {
		want := fmt.Sprint(s.least)
		switch {
		case s.most == 0:
			want = fmt.Sprintf("at least %d", s.least)
		case s.most != s.least:
			want = fmt.Sprintf("%d to %d", s.least, s.most)
		}
		c.at(at, fmt.Sprintf("has %d items, want %s", n, want))
		return nil
	}
	seen := map[string]bool{}
	items, changed := v.items, false
	for i, item := range v.items {
		elem := s.elem
		if s.tuple != nil {
			elem = s.tuple[min(i, len(s.tuple)-1)]
		}
		fits := c.check(item, item, elem)
		switch {
		case fits == item && changed:
			items = append(items, item)
		case fits == item:
		case fits == nil && s.tuple != nil:
			return nil
		default:
			if !changed {
				items, changed = slices.Clone(v.items[:i]), true
			}
			if fits != nil {
				items = append(items, fits)
			}
		}
		if !s.unique {
			continue
		}
		same := item.canonical(&c.steps)
		if seen[same] {
			c.wrong(item, "is in the list twice")
		}
		seen[same] = true
	}
	if !changed {
		return v
	}
	if len(items) < s.least {
		return nil
	}
	pruned := *v
	pruned.items = items
	return &pruned
}

func (c *checker) checkObject(at, v *value, s *shape) *value {
	c.faults(v)
	fits, changed := make([]*value, len(v.fields)), false
	for i := range v.fields {
		f := &v.fields[i]
		c.path = append(c.path, f.key.text)
		known := s.byName[f.key.text]
		if s.names != nil {
			known = s.elem
			if text := f.key.otherwise(); text != "" {
				c.noted(f.key, text)
			}
		}
		if f.value.kind == null && known != nil && !known.nullable && !known.anyKind && !slices.Contains(s.required, f.key.text) {
			c.wrong(f.key, "is empty: it counts as absent")
		} else if s.names != nil {
			if !s.names.re.MatchString(f.key.text) {
				c.at(f.key, "is no name that may stand here: want "+s.names.want)
			} else {
				fits[i] = c.check(f.key, f.value, s.elem)
			}
		} else if known != nil {
			fits[i] = c.check(f.key, f.value, known)
		} else {
			fits[i] = c.unknown(f, v, s)
		}
		changed = changed || fits[i] != f.value
		c.path = c.path[:len(c.path)-1]
	}
	for _, name := range s.required {
		if v.find(name) == nil {
			c.at(at, "lacks "+name)
			return nil
		}
	}
	if !changed {
		return v
	}
	pruned := &value{kind: object, file: v.file, line: v.line, column: v.column}
	for i, f := range v.fields {
		if fits[i] != nil {
			pruned.add(field{f.key, fits[i]})
		}
	}
	for _, name := range s.required {
		if pruned.find(name) == nil {
			return nil
		}
	}
	return pruned
}

// unknown reports a key of v that s does not have: it stops nothing, so that a
// newer version can add keys. In an open object only what looks like a misspelled
// key is wrong.
func (c *checker) unknown(f *field, v *value, s *shape) *value {
	if near := spelling.Misspelled(f.key.text, s.missingEssentials(v)); near != "" {
		c.at(f.key, fmt.Sprintf("unknown key (did you mean %q, without which nobody knows what is meant?)", near))
		return nil
	}
	near := spelling.Nearest(f.key.text, s.keyNames())
	if s.open {
		near = spelling.Misspelled(f.key.text, s.keyNames())
	}
	switch {
	case near != "":
		c.wrong(f.key, fmt.Sprintf("unknown key (did you mean %q?)", near))
	case s.open:
	default:
		c.wrong(f.key, "unknown key")
	}
	v = c.check(f.key, f.value, anyShape) // which breaks it if it cannot be read at all
	if near != "" || !s.open {
		return nil
	}
	return v
}

// missingEssentials are the keys that v lacks and that must not be missed.
func (s *shape) missingEssentials(v *value) []string {
	var names []string
	for _, k := range s.keys {
		if (k.shape.reserved || k.shape.essentialKey) && v.find(k.name) == nil {
			names = append(names, k.name)
		}
	}
	return names
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

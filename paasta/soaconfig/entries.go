package soaconfig

import (
	"cmp"
	"slices"
	"strings"
)

// An entry is one named object of a file, checked against its shape.
type entry struct {
	*checker        // its path is the entry's name
	name     string // of the entry
	key      *value // where the name stands
	value    *value
	wrong    map[string]bool // keys that did not pass, and are left out of value
}

// fine tells whether none of the keys is known to be wrong, so that it makes
// sense to compare them.
func (e *entry) fine(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool { return e.wrong[k] })
}

// prune takes the keys that have problems out of the entry's value, so that
// what the rest says together can be checked all the same. It returns false if
// nothing of it can be used.
func (e *entry) prune() bool {
	if e.value.kind != object || e.exceeded {
		return false
	}
	e.wrong = map[string]bool{}
	for _, p := range e.problems {
		if rest, ok := strings.CutPrefix(p.Key, e.name+"."); ok {
			key, _, _ := strings.Cut(rest, ".")
			e.wrong[key] = true
		}
	}
	sound := &value{kind: object, file: e.value.file, line: e.value.line, column: e.value.column}
	for _, f := range e.value.fields {
		if key, _, _ := strings.Cut(f.key.text, "."); !e.wrong[key] {
			sound.add(f)
		}
	}
	e.value = sound
	return true
}

// report adds a problem about a key of the entry, or, without a key, about the
// entry as a whole. A key that is not there is reported at the entry's name.
func (e *entry) report(text string, path ...string) {
	p := e.place(path...)
	p.Text = text
	e.problems = append(e.problems, p)
}

// place is where report would say something.
func (e *entry) place(path ...string) Problem {
	at, v := e.key, e.value
	for _, name := range path {
		f := v.find(name)
		if f == nil {
			break
		}
		at, v = f.key, f.value
	}
	return Problem{
		File: at.file, Line: int(at.line), Column: int(at.column),
		Key: dotted(append([]string{e.name}, path...)),
	}
}

// readEntries reads a file whose top-level keys are entries of shape s. read
// makes the value of an entry, and may report further problems; of an entry that
// does not fit s it gets what does, and its result is not used. Names that begin with "_" exist to be merged from.
// The problems returned are those of the entries, and of what is none.
func readEntries[T any](d document, names *pattern, s *shape, read func(e *entry) T) (Entries[T], Problems) {
	if !d.exists {
		return Entries[T]{}, nil
	}
	all := Entries[T]{File: d.file, Sound: map[string]T{}, Broken: map[string]Problems{}}
	switch {
	case d.problem != nil:
		all.Unreadable = Problems{*d.problem}
		return all, all.Unreadable
	case d.root == nil:
		all.Unreadable = Problems{{File: d.file, Text: "is empty: write {} to say that there is nothing"}}
		return all, all.Unreadable
	}
	if d.root.kind != object {
		text := "is " + d.root.describe() + ", want an object"
		if d.root.kind == bad {
			text = d.root.text
		}
		all.Unreadable = Problems{{File: d.file, Line: int(d.root.line), Column: int(d.root.column), Text: text}}
		return all, all.Unreadable
	}
	var problems Problems
	steps := 0
	for i := range d.root.fields {
		f := &d.root.fields[i]
		name := f.key.text
		c := &checker{path: []string{name}, steps: steps}
		e := &entry{checker: c, name: name, key: f.key, value: f.value}
		if strings.HasPrefix(name, "_") {
			c.check(f.key, f.value, anyShape)
			problems = append(problems, c.problems...)
			steps = c.steps
			continue
		}
		if !names.re.MatchString(name) {
			c.at(f.key, "is no name that may stand here: want "+names.want)
		} else if strings.Contains(name, "--") {
			c.at(f.key, `has "--", which Marathon's ids use for "_"`)
		}
		if f.value.kind == null {
			c.at(f.key, "is empty: write {} if every default will do")
		} else {
			c.check(f.key, f.value, s)
		}
		if len(c.problems) == 0 || names.re.MatchString(name) && e.prune() {
			if v := read(e); len(c.problems) == 0 {
				all.Sound[name] = v
			}
		}
		if len(c.problems) > 0 {
			if !names.re.MatchString(name) {
				all.Unreadable = append(all.Unreadable, c.problems...) // which entry it is to be, nobody knows
			}
			all.Broken[name] = c.problems
			problems = append(problems, c.problems...)
		}
		if len(c.problems) <= maxProblems { // beyond, the checker gave up early
			steps = c.steps
		}
	}
	for i, fault := range d.root.faults {
		if i == maxProblems {
			problems = append(problems, Problem{File: d.file, Line: int(fault.at.line), Column: int(fault.at.column), Text: "and so on: further mistakes are not shown"})
		}
		p := Problem{File: d.file, Line: int(fault.at.line), Column: int(fault.at.column), Key: fault.name, Text: fault.text}
		if i < maxProblems {
			problems = append(problems, p)
		}
		if fault.name == "" || fault.name == "<<" { // what it would have named, nobody knows
			all.Unreadable = append(all.Unreadable, p)
		}
		_, sound := all.Sound[fault.name]
		if broken := len(all.Broken[fault.name]); sound || broken > 0 && broken < maxProblems {
			// Two entries of one name: nobody knows which one is meant.
			delete(all.Sound, fault.name)
			all.Broken[fault.name] = append(all.Broken[fault.name], p)
		}
	}
	return all, problems
}

// readObject checks a file that is one object, and returns its root, nil if it
// is absent, empty or wrong as a whole. Parts of it may be broken all the same.
func readObject(d document, s *shape) (root *value, problems Problems) {
	switch {
	case d.problem != nil:
		return nil, Problems{*d.problem}
	case d.root == nil:
		return nil, nil
	}
	c := &checker{}
	c.check(d.root, d.root, s)
	if d.root.kind != object {
		return nil, c.problems
	}
	return d.root, c.problems
}

// sorted puts problems in the order of files, lines and columns, each once.
func (p Problems) sorted() Problems {
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Key, b.Key), strings.Compare(a.Text, b.Text))
	})
	return slices.Compact(p)
}

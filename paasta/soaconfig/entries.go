package soaconfig

import (
	"slices"
	"strings"
)

// An entry is one named object of a file, checked against its shape.
type entry struct {
	*checker        // its path is the entry's name
	name     string // of the entry
	key      *value // where the name stands
	value    *value
	unfit    map[string]bool // keys that break it, and are left out of value
}

// fine tells whether none of the keys breaks the entry, so that it makes
// sense to compare them.
func (e *entry) fine(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool { return e.unfit[k] })
}

// prune takes the keys that break the entry out of its value, so that what the
// rest says together can be checked all the same.
func (e *entry) prune() {
	e.unfit = map[string]bool{}
	for _, p := range e.problems.Of(Broken) {
		if rest, ok := strings.CutPrefix(p.Key, e.name+"."); ok {
			key, _, _ := strings.Cut(rest, ".")
			e.unfit[key] = true
		}
	}
	if len(e.unfit) == 0 {
		return
	}
	pruned := &value{kind: object, file: e.value.file, line: e.value.line, column: e.value.column}
	for _, f := range e.value.fields {
		if key, _, _ := strings.Cut(f.key.text, "."); !e.unfit[key] {
			pruned.add(f)
		}
	}
	e.value = pruned
}

// report adds a problem about a key of the entry, or, without a key, about the
// entry as a whole, which breaks it. A key that is not there is reported at the
// entry's name.
func (e *entry) report(text string, path ...string) { e.say(Broken, text, path...) }

// say is report for a problem of any class.
func (e *entry) say(c Class, text string, path ...string) {
	p := e.place(path...)
	p.Class, p.Text = c, text
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
	return at.problem(Broken, dotted(append([]string{e.name}, path...)), "")
}

// readEntries reads a file whose top-level keys are entries of shape s. read
// makes the value of an entry, and may report further problems; of an entry that
// does not fit s it gets what does, and its result is not used. Names that begin with "_" exist to be merged from.
// The problems returned are those of the entries, and of what is none.
func readEntries[T any](d document, names *pattern, s *shape, read func(e *entry) T) (Entries[T], Problems) {
	if !d.exists {
		return Entries[T]{}, nil
	}
	all := Entries[T]{File: d.file, Valid: map[string]T{}, Invalid: map[string]Problems{}}
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
		all.Unreadable = Problems{d.root.problem(Broken, "", text)}
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
			c.class = Wrong // it breaks those that merge it
			c.check(f.key, f.value, anyShape)
			problems = append(problems, c.problems...)
			steps = c.steps
			continue
		}
		named := names.re.MatchString(name)
		if !named {
			c.at(f.key, "is no name that may stand here: want "+names.want)
		} else if strings.Contains(name, "--") {
			c.at(f.key, `has "--", which Marathon's ids use for "_"`)
		}
		if f.value.kind == null && s.nullable {
			c.class = Note
			c.at(f.key, "is empty: every default holds")
			c.class = Broken
			e.value = &value{kind: object, file: f.value.file, line: f.value.line, column: f.value.column}
		} else {
			e.value = c.check(f.key, f.value, s)
		}
		if named && e.value != nil && !c.exceeded {
			e.prune()
			if v := read(e); len(c.problems.Of(Broken)) == 0 {
				all.Valid[name] = v
			}
		}
		if broken := c.problems.Of(Broken); len(broken) > 0 {
			if !named {
				all.Unreadable = append(all.Unreadable, broken...) // which entry it is to be, nobody knows
			}
			all.Invalid[name] = broken
		}
		problems = append(problems, c.problems...)
		if c.count[Broken] <= maxProblems { // beyond, the checker gave up early
			steps = c.steps
		}
	}
	for i, fault := range d.root.faults {
		p := fault.at.problem(fault.class, fault.name, fault.text)
		if i == maxProblems {
			p.Key, p.Text = "", "and so on: further mistakes are not shown"
		}
		if i > maxProblems {
			break
		}
		if fault.name == "" || fault.name == "<<" { // what it would have named, nobody knows
			all.Unreadable = append(all.Unreadable, p)
		}
		problems = append(problems, p)
	}
	return all, problems
}

// readObject checks a file that is one object, and returns what of it can be
// used, nil if it is absent, empty or wrong as a whole.
func readObject(d document, s *shape) (root *value, problems Problems) {
	c := &checker{}
	if s.isLenient {
		c.class = Wrong
	}
	switch {
	case d.problem != nil:
		p := *d.problem
		p.Class = c.class
		return nil, Problems{p}
	case d.root == nil:
		return nil, nil
	}
	root = c.check(d.root, d.root, s)
	return root, c.problems
}

// Entries is what one file says: its valid entries, and for each invalid entry
// what breaks it. An entry with problems of the class Wrong is valid: they are in
// the service's Problems. When the file could not be read as YAML at all, or an
// entry has no name that one may have, Unreadable is set and nobody may conclude
// that an entry which is not there is gone.
type Entries[T any] struct {
	File       string // path, "" when there is no such file
	Valid      map[string]T
	Invalid    map[string]Problems
	Unreadable Problems
}

// Find returns the entry called name; found is false only when the file
// certainly does not have it. err is a Problems when it is there and broken, or
// the file is unreadable.
func (e Entries[T]) Find(name string) (value T, found bool, err error) {
	if v, ok := e.Valid[name]; ok {
		return v, true, nil
	}
	if p, ok := e.Invalid[name]; ok {
		return value, true, p
	}
	if len(e.Unreadable) > 0 {
		return value, true, e.Unreadable
	}
	return value, false, nil
}

package api

import (
	"fmt"
	"slices"
	"strings"
)

// parseSelector reads a label selector: terms with commas between them, each
// key, key==v, key!=v, key in (a, b) or key notin (a, b). "!=" and "notin" only
// match where there is such a label.
func parseSelector(text string) (func(map[string]string) bool, error) {
	p := &selector{rest: text}
	var terms []func(map[string]string) bool
	for {
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		terms = append(terms, t)
		p.blanks()
		if p.rest == "" {
			break
		}
		if !p.take(",") {
			return nil, fmt.Errorf("want a comma before %q", p.rest)
		}
	}
	return func(labels map[string]string) bool {
		for _, t := range terms {
			if !t(labels) {
				return false
			}
		}
		return true
	}, nil
}

type selector struct{ rest string }

func (p *selector) blanks() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *selector) take(token string) bool {
	p.blanks()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

// word reads a key or value; a backslash takes what follows it as it is.
func (p *selector) word() (string, error) {
	p.blanks()
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case c == '-' || c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			b.WriteByte(c)
		default:
			if i == 0 {
				return "", fmt.Errorf("want a word before %q", p.rest)
			}
			p.rest = p.rest[i:]
			return b.String(), nil
		}
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("want a word at the end")
	}
	p.rest = ""
	return b.String(), nil
}

func (p *selector) term() (func(map[string]string) bool, error) {
	key, err := p.word()
	if err != nil {
		return nil, err
	}
	switch {
	case p.take("=="):
		v, err := p.word()
		return func(l map[string]string) bool { has, ok := l[key]; return ok && has == v }, err
	case p.take("!="):
		v, err := p.word()
		return func(l map[string]string) bool { has, ok := l[key]; return ok && has != v }, err
	case p.take("in ") || p.take("in("):
		set, err := p.set()
		return func(l map[string]string) bool { has, ok := l[key]; return ok && slices.Contains(set, has) }, err
	case p.take("notin ") || p.take("notin("):
		set, err := p.set()
		return func(l map[string]string) bool { has, ok := l[key]; return ok && !slices.Contains(set, has) }, err
	}
	return func(l map[string]string) bool { _, ok := l[key]; return ok }, nil
}

// set reads words in brackets; the opening one may have been taken already.
func (p *selector) set() ([]string, error) {
	p.take("(")
	var set []string
	for {
		v, err := p.word()
		if err != nil {
			return nil, err
		}
		set = append(set, v)
		switch {
		case p.take(","):
		case p.take(")"):
			return set, nil
		default:
			return nil, fmt.Errorf("want a closing bracket before %q", p.rest)
		}
	}
}

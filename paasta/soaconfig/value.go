package soaconfig

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// kind is what a value is.
type kind uint8

const (
	null kind = iota
	text
	integer
	number
	boolean
	list
	object
	bad // cannot be understood; text says why
)

// A value is a piece of a file and its place. It does not change once built,
// and an alias shares it, so the values of a file are a graph without cycles.
type value struct {
	kind         kind
	plain        bool // a scalar without quotes
	line, column int32
	file         string
	text         string  // of a scalar, as written
	number       float64 // integer, number; 1 for true
	items        []*value
	fields       []field
	index        map[string]int // of fields, once there are many
	faults       []fault        // of an object: what is wrong with its keys
}

type field struct{ key, value *value }

// A fault is a mistake in the keys of an object.
type fault struct {
	at    *value
	name  string // the key, "" for none
	text  string
	class Class
}

func (v *value) broken(format string, args ...any) *value {
	v.kind, v.text = bad, fmt.Sprintf(format, args...)
	return v
}

// problem is one about v.
func (v *value) problem(class Class, key, text string) Problem {
	return Problem{class, v.file, int(v.line), int(v.column), key, text}
}

// many is the number of fields from which an index is faster.
const many = 12

func (v *value) find(key string) *field {
	if v.index != nil {
		if i, ok := v.index[key]; ok {
			return &v.fields[i]
		}
		return nil
	}
	for i := range v.fields {
		if v.fields[i].key.text == key {
			return &v.fields[i]
		}
	}
	return nil
}

// set replaces the value of a key that is there, or adds it.
func (v *value) set(f field) {
	if old := v.find(f.key.text); old != nil {
		*old = f
		return
	}
	v.add(f)
}

func (v *value) add(f field) {
	v.fields = append(v.fields, f)
	switch n := len(v.fields); {
	case v.index != nil:
		v.index[f.key.text] = n - 1
	case n == many:
		v.index = make(map[string]int, 2*many)
		for i := range v.fields {
			v.index[v.fields[i].key.text] = i
		}
	}
}

// describe says what the value is, for people.
func (v *value) describe() string {
	switch v.kind {
	case null:
		return "empty"
	case text:
		return "the text " + quote(v.text)
	case list:
		return "a list"
	case object:
		return "an object"
	}
	return v.text
}

// quote is %q of a text of bearable length.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return fmt.Sprintf("%q", s)
}

// The readers below are for values that passed their check: a missing key
// leaves the default, and kinds are right.

func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	if f := v.find(key); f != nil {
		return f.value
	}
	return nil
}

func (v *value) has(key string) bool { return v.get(key) != nil }

// read stores the text or the truth of key in *to, if it is there.
func read[T string | bool | *int](v *value, key string, to *T) {
	if f := v.get(key); f.given() {
		decodeValue(f, reflect.ValueOf(to).Elem(), "")
	}
}

func seconds(n float64) time.Duration { return time.Duration(math.Round(n * float64(time.Second))) }

// truth is the value of a boolean, or of YAML 1.1's words for it.
func (v *value) truth() bool {
	if v.kind == boolean {
		return v.number == 1
	}
	return isWord(v.text, yesWords)
}

var (
	yesWords = []string{"yes", "on"}
	noWords  = []string{"no", "off"}
)

func isWord(s string, words []string) bool {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}

// texts is a list of scalars, or one scalar as such a list.
func (v *value) texts() []string {
	if v.kind != list {
		return []string{v.text}
	}
	all := make([]string, len(v.items))
	for i, item := range v.items {
		all[i] = item.text
	}
	return all
}

// plainData is the value as maps, lists, strings, float64 (int where it is
// one) and bools, for what we hand on without knowing it. budget bounds what
// aliases can blow up; beyond it values are left out.
func (v *value) plainData(budget *int) any {
	if *budget--; *budget < 0 {
		return nil
	}
	switch v.kind {
	case text:
		return v.text
	case integer:
		return int(v.number)
	case number:
		return v.number
	case boolean:
		return v.number == 1
	case list:
		items := make([]any, len(v.items))
		for i, item := range v.items {
			items[i] = item.plainData(budget)
		}
		return items
	case object:
		m := make(map[string]any, len(v.fields))
		for _, f := range v.fields {
			m[f.key.text] = f.value.plainData(budget)
		}
		return m
	}
	return nil
}

// openMap is an object as plain data, nil if it is not there.
func openMap(v *value) map[string]any {
	if v == nil || v.kind != object {
		return nil
	}
	budget := maxSteps
	m, _ := v.plainData(&budget).(map[string]any)
	return m
}

// overlay merges over onto base: objects key by key, everything else replaced.
func overlay(base, over *value) *value {
	merged := *over
	merged.fields = append([]field(nil), over.fields...)
	merged.index = nil
	if len(merged.fields) >= many {
		merged.index = make(map[string]int, 2*many)
		for i := range merged.fields {
			merged.index[merged.fields[i].key.text] = i
		}
	}
	for _, f := range base.fields {
		own := merged.find(f.key.text)
		switch {
		case own == nil:
			merged.add(f)
		case own.value.kind == object && f.value.kind == object:
			own.value = overlay(f.value, own.value)
		}
	}
	return &merged
}

// given tells whether there is a value, and one that says something.
func (v *value) given() bool { return v != nil && v.kind != null }

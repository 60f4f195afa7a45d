package definition

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// An object reads the members of one JSON object and notes each that has the
// wrong type or leaves its bounds. A null counts as absent.
type object struct {
	members map[string]any
	path    string // of this object, "" for the root
	wrong   *problems
	refused *problems // right by themselves, and not possible
}

func (o object) has(key string) bool { return o.members[key] != nil }

// whole is the key of what is wrong with an object as a whole.
const whole = ""

func (o object) at(key string) string { return o.path + "/" + key }

func (o object) fail(key, code string) { o.wrong.add(o.at(key), "%s", code) }

func (o object) refuse(key, text string) { o.refused.add(o.at(key), "%s", text) }

func (o object) str(key, otherwise string) string {
	v := o.members[key]
	if v == nil {
		return otherwise
	}
	s, ok := v.(string)
	if !ok {
		o.fail(key, "error.expected.jsstring")
		return otherwise
	}
	return s
}

func (o object) boolean(key string, otherwise bool) bool {
	v := o.members[key]
	if v == nil {
		return otherwise
	}
	b, ok := v.(bool)
	if !ok {
		o.fail(key, "error.expected.jsboolean")
		return otherwise
	}
	return b
}

func (o object) float(key string, otherwise, low float64) float64 {
	v := o.members[key]
	if v == nil {
		return otherwise
	}
	n, ok := v.(json.Number)
	if !ok {
		o.fail(key, "error.expected.jsnumber")
		return otherwise
	}
	f, err := n.Float64()
	switch {
	case err != nil || math.IsInf(f, 0):
		o.fail(key, "error.expected.jsnumber")
		return otherwise
	case f < low:
		o.fail(key, "error.min")
		return otherwise
	}
	return f
}

// maxInt is Scala's.
const maxInt = math.MaxInt32

func (o object) integer(key string, otherwise, low, high int) int {
	f := o.float(key, float64(otherwise), math.Inf(-1))
	switch {
	case f != math.Trunc(f):
		o.fail(key, "error.expected.jsnumber")
	case f < float64(low):
		o.fail(key, "error.min")
	case f > float64(high):
		o.fail(key, "error.max")
	default:
		return int(f)
	}
	return otherwise
}

// enum reads one of known, in any case.
func (o object) enum(key, otherwise string, known ...string) string {
	s := o.str(key, otherwise)
	for _, k := range known {
		if strings.EqualFold(s, k) {
			return k
		}
	}
	o.fail(key, "error.unknown.enum.literal")
	return otherwise
}

func (o object) object(key string) (object, bool) {
	v := o.members[key]
	if v == nil {
		return object{}, false
	}
	m, ok := v.(map[string]any)
	if !ok {
		o.fail(key, "error.expected.jsobject")
		return object{}, false
	}
	return object{m, o.at(key), o.wrong, o.refused}, true
}

// list returns the elements; ok is false when key is absent.
func (o object) list(key string) (elements []any, ok bool) {
	v := o.members[key]
	if v == nil {
		return nil, false
	}
	l, ok := v.([]any)
	if !ok {
		o.fail(key, "error.expected.jsarray")
		return nil, false
	}
	return l, true
}

func (o object) objects(key string) (elements []object, ok bool) {
	l, ok := o.list(key)
	for i, v := range l {
		m, isObject := v.(map[string]any)
		if !isObject {
			o.fail(index(key, i), "error.expected.jsobject")
			continue
		}
		elements = append(elements, object{m, o.at(index(key, i)), o.wrong, o.refused})
	}
	return elements, ok
}

func (o object) strings(key string) []string {
	l, _ := o.list(key)
	var texts []string
	for i, v := range l {
		s, ok := v.(string)
		if !ok {
			o.fail(index(key, i), "error.expected.jsstring")
			continue
		}
		texts = append(texts, s)
	}
	return texts
}

func (o object) integers(key string) ([]int, bool) {
	l, ok := o.list(key)
	numbers := []int{}
	for i, v := range l {
		n, isNumber := v.(json.Number)
		number, err := strconv.Atoi(string(n))
		if !isNumber || err != nil {
			o.fail(index(key, i), "error.expected.jsnumber")
			continue
		}
		numbers = append(numbers, number)
	}
	return numbers, ok
}

func (o object) stringMap(key string) map[string]string {
	m, ok := o.object(key)
	if !ok {
		return nil
	}
	texts := make(map[string]string, len(m.members))
	for _, k := range sortedKeys(m.members) {
		s, ok := m.members[k].(string)
		if !ok {
			m.fail(k, "error.expected.jsstring")
			continue
		}
		texts[k] = s
	}
	return texts
}

func index(key string, i int) string { return key + "(" + strconv.Itoa(i) + ")" }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

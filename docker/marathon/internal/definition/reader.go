package definition

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A reader fills values from decoded JSON as their tags say, and notes every
// member that has the wrong type or leaves its bounds. A null counts as absent.
// encoding/json would say one mistake at a time, and not where in a list it is.
//
//	default   what an absent member is
//	required  it must not be absent
//	min, max  bounds of numbers, by default 0 and Scala's largest integer
//	enum      what a text may be, in any case, with "|" between
//	pattern   the name of the one that a text must match
//	refuse    why an object is not possible here
//	read:"-"  it is ours to fill
type reader struct {
	wrong   problems
	refused problems // right by themselves, and not possible
}

// unsupported is a member that would ask for what paasta marathon has not: an
// app that runs without it would not be what was asked for.
type unsupported struct{}

const maxInt = math.MaxInt32

var patterns = map[string]*regexp.Regexp{
	"port":     regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`),
	"executor": regexp.MustCompile(`^(//cmd)$|^(/?[^/]+(/[^/]+)*)$|^$`),
	"nonempty": regexp.MustCompile(`(?s).`),
}

var expected = map[reflect.Kind]string{
	reflect.String: "error.expected.jsstring", reflect.Bool: "error.expected.jsboolean", reflect.Float64: "error.expected.jsnumber",
	reflect.Int: "error.expected.jsnumber", reflect.Slice: "error.expected.jsarray", reflect.Map: "error.expected.jsobject",
	reflect.Struct: "error.expected.jsobject",
}

func (r *reader) read(path string, in any, out reflect.Value, tag reflect.StructTag) {
	kind := out.Kind()
	ok := true
	switch {
	case kind == reflect.Pointer && in != nil:
		out.Set(reflect.New(out.Type().Elem()))
		r.read(path, in, out.Elem(), tag)
	case in == nil && kind != reflect.Struct:
		r.absent(path, out, tag)
	case kind == reflect.String:
		ok = r.text(path, in, out, tag)
	case kind == reflect.Bool:
		var b bool
		b, ok = in.(bool)
		out.SetBool(b)
	case kind == reflect.Float64 || kind == reflect.Int:
		ok = r.number(path, in, out, tag)
	case kind == reflect.Slice:
		var list []any
		list, ok = in.([]any)
		r.list(path, list, out, tag)
	case kind == reflect.Map:
		var members map[string]any
		members, ok = in.(map[string]any)
		r.texts(path, members, out, tag)
	default:
		ok = r.object(path, in, out, tag)
	}
	if !ok {
		r.wrong.add(path, "%s", expected[kind])
	}
}

func (r *reader) absent(path string, out reflect.Value, tag reflect.StructTag) {
	if _, required := tag.Lookup("required"); required {
		r.wrong.add(path, "error.path.missing")
	}
	switch text := tag.Get("default"); {
	case text == "":
	case out.Kind() == reflect.String:
		out.SetString(text)
	default:
		if err := json.Unmarshal([]byte(text), out.Addr().Interface()); err != nil {
			panic(err) // a default is JSON
		}
	}
}

func (r *reader) text(path string, in any, out reflect.Value, tag reflect.StructTag) bool {
	s, ok := in.(string)
	if enum := tag.Get("enum"); ok && enum != "" {
		known := strings.Split(enum, "|")
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, s) })
		if i < 0 {
			r.wrong.add(path, "error.unknown.enum.literal")
			return true
		}
		s = known[i]
	}
	switch pattern := tag.Get("pattern"); {
	case !ok || pattern == "" || patterns[pattern].MatchString(s):
	case s == "":
		r.wrong.add(path, "error.minLength")
	default:
		r.wrong.add(path, "error.pattern")
	}
	out.SetString(s)
	return ok
}

func (r *reader) number(path string, in any, out reflect.Value, tag reflect.StructTag) bool {
	n, ok := in.(json.Number)
	f, err := n.Float64()
	whole := out.Kind() == reflect.Int
	switch {
	case !ok || err != nil || whole && f != math.Trunc(f):
		return false
	case f < bound(tag, "min", 0):
		r.wrong.add(path, "error.min")
	case whole && f > bound(tag, "max", maxInt):
		r.wrong.add(path, "error.max")
	case whole:
		out.SetInt(int64(f))
	default:
		out.SetFloat(f)
	}
	return true
}

func bound(tag reflect.StructTag, key string, otherwise float64) float64 {
	if f, err := strconv.ParseFloat(tag.Get(key), 64); err == nil {
		return f
	}
	return otherwise
}

func (r *reader) list(path string, in []any, out reflect.Value, tag reflect.StructTag) {
	out.Set(reflect.MakeSlice(out.Type(), len(in), len(in)))
	for i, v := range in {
		at := path + "(" + strconv.Itoa(i) + ")"
		if v == nil {
			r.wrong.add(at, "%s", expected[out.Type().Elem().Kind()])
			continue
		}
		r.read(at, v, out.Index(i), tag)
	}
}

func (r *reader) texts(path string, in map[string]any, out reflect.Value, tag reflect.StructTag) {
	texts := make(map[string]string, len(in))
	for _, k := range slices.Sorted(maps.Keys(in)) {
		s, ok := in[k].(string)
		if _, object := in[k].(map[string]any); object && tag.Get("refuse") != "" {
			r.refused.add(path+"/"+k, "%s", tag.Get("refuse"))
		} else if !ok {
			r.wrong.add(path+"/"+k, "error.expected.jsstring")
		}
		texts[k] = s
	}
	out.Set(reflect.ValueOf(texts))
}

func (r *reader) object(path string, in any, out reflect.Value, tag reflect.StructTag) bool {
	members, ok := in.(map[string]any)
	switch to := out.Addr().Interface().(type) {
	case *unsupported:
		if len(members) > 0 || !ok && in != nil {
			r.refused.add(path, "%s", tag.Get("refuse"))
		}
		return true
	case *UnreachableStrategy:
		if to.Disabled = in == "disabled"; to.Disabled {
			return true
		}
		if _, text := in.(string); text {
			r.wrong.add(path, "error.unknown.enum.literal")
			return true
		}
	}
	for i := range out.NumField() {
		field := out.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "-" && field.Tag.Get("read") != "-" {
			r.read(path+"/"+name, members[name], out.Field(i), field.Tag)
		}
	}
	return ok || in == nil
}

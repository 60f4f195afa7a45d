package sysconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/spelling"
)

// settings is what the files of a directory say together, and who said it.
type settings struct {
	values  map[string]any
	origins map[string]string // file:line:column, by dotted path
	notes   []string          // keys that nothing reads, with their places
}

// readDir reads and merges every settings file below dir. The error joins all
// mistakes of all files.
func readDir(dir string) (settings, error) {
	s := settings{values: map[string]any{}, origins: map[string]string{}}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	files, err := find(dir)
	if err != nil {
		return s, fmt.Errorf("read system config: %w", err)
	}
	var mistakes []error
	for _, file := range files {
		data, problems := soaconfig.ReadData(file)
		f := reader{data: data}
		f.section(data.Values, reflect.TypeFor[Config](), nil)
		s.notes = append(s.notes, f.notes...)
		for _, p := range problems {
			f.mistakes = append(f.mistakes, errors.New(strings.TrimSuffix(p.String(), ": this one counts, as in PaaSTA")))
		}
		mistakes = append(mistakes, f.mistakes...)
		if len(f.mistakes) == 0 {
			mistakes = append(mistakes, s.merge(f, data.Values, s.values, nil)...)
		}
	}
	return s, errors.Join(mistakes...)
}

// find lists the settings files below dir, sorted. It follows symbolic links,
// each real directory once. Hidden names are left out, and services.d, which
// holds services and not settings.
func find(dir string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	var walk func(string) error
	walk = func(dir string) error {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return err
		}
		if seen[real] {
			return nil
		}
		seen[real] = true
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.HasPrefix(e.Name(), ".") || e.Name() == "services.d" {
				continue
			}
			ext := filepath.Ext(path)
			isFile := ext == ".yaml" || ext == ".yml" || ext == ".json"
			info, err := os.Stat(path)
			switch {
			case err != nil && !isFile:
				continue // a dangling link or a vanished file that is not ours
			case err != nil:
				return err
			case info.IsDir():
				if err := walk(path); err != nil {
					return err
				}
			case isFile:
				files = append(files, path)
			}
		}
		return nil
	}
	err := walk(dir)
	return files, err
}

// A reader checks one file against the shape of Config.
type reader struct {
	data     soaconfig.Data
	mistakes []error
	notes    []string
}

func (r *reader) mistake(path []string, format string, args ...any) {
	r.mistakes = append(r.mistakes, errors.New(r.at(path, fmt.Sprintf(format, args...))))
}

func (r *reader) note(path []string, text string) { r.notes = append(r.notes, r.at(path, text)) }

// at is text about the key at path, with its place.
func (r *reader) at(path []string, text string) string {
	p := r.data.At(path...)
	p.Key, p.Text = strings.Join(path, "."), text
	return p.String()
}

// section checks a mapping against a struct, and moves aliases to our names.
func (r *reader) section(values map[string]any, t reflect.Type, path []string) {
	fields := fieldsOf(t)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		here := append(slices.Clip(path), key)
		value := values[key]
		if target, ok := aliases[key]; ok && len(path) == 0 {
			r.alias(values, key, target)
			continue
		}
		field, ok := fields[key]
		switch {
		case !ok:
			r.unknown(here, slices.Sorted(maps.Keys(fields)))
			delete(values, key)
		case value == nil:
			delete(values, key) // "key:" with nothing behind it is a key that is not set
		default:
			r.value(value, field, here)
		}
	}
}

// unknown notes a key that nothing reads: PaaSTA's, or anybody's. Only one that
// looks like a slip of the pen is a mistake.
func (r *reader) unknown(path, known []string) {
	key := path[len(path)-1]
	if len(path) == 1 {
		why, theirs := retired[key]
		switch {
		case theirs && why != "":
			r.note(path, "PaaSTA's key does nothing here: "+why)
			return
		case theirs:
			r.note(path, "PaaSTA's key does nothing here")
			return
		}
		known = slices.Concat(known, slices.Collect(maps.Keys(retired)), slices.Collect(maps.Keys(aliases)))
		slices.Sort(known)
	}
	if near := spelling.Suggest(key, known); near != "" {
		r.mistake(path, "unknown key%s", near)
		return
	}
	r.note(path, "unknown key: it does nothing")
}

// alias puts the value of an alias under our own name, and checks it there.
func (r *reader) alias(values map[string]any, key string, target []string) {
	value := values[key]
	delete(values, key)
	if key == "local_run_config" {
		m, _ := value.(map[string]any)
		value = m["default_cluster"]
	}
	t := reflect.TypeFor[Config]()
	for _, section := range target[:len(target)-1] {
		t = fieldsOf(t)[section]
		next, ok := values[section].(map[string]any)
		if !ok {
			next = map[string]any{}
			values[section] = next
		}
		values = next
	}
	last := target[len(target)-1]
	if _, both := values[last]; both {
		r.mistake([]string{key}, "is PaaSTA's name of %s, which is there too", strings.Join(target, "."))
		return
	}
	r.value(value, fieldsOf(t)[last], []string{key})
	values[last] = value
}

// value checks that value can become a t.
func (r *reader) value(value any, t reflect.Type, path []string) {
	want := ""
	switch {
	case t == reflect.TypeFor[time.Duration]():
		if _, err := duration(value); err != nil {
			r.mistake(path, "%v", err)
		}
		return
	case t.Kind() == reflect.Interface:
		return
	}
	switch t.Kind() {
	case reflect.String:
		if _, ok := value.(string); !ok {
			want = "a text"
		}
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			want = "true or false"
		}
	case reflect.Int:
		f, isFloat := value.(float64) // JSON has no other numbers
		if _, ok := value.(int); !ok && (!isFloat || f != float64(int(f))) {
			want = "an integer"
		}
	case reflect.Float64:
		switch value.(type) {
		case int, float64:
		default:
			want = "a number"
		}
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			want = "a list"
		}
		for _, v := range list {
			r.value(v, t.Elem(), path)
		}
	case reflect.Struct:
		m, ok := value.(map[string]any)
		if !ok {
			want = "an object"
		}
		r.section(m, t, path)
	case reflect.Map:
		m, ok := value.(map[string]any)
		if !ok {
			want = "an object with text keys"
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			r.value(m[k], t.Elem(), append(slices.Clip(path), k))
		}
	}
	if want != "" {
		r.mistake(path, "is %s, want %s", describe(value), want)
	}
}

func describe(value any) string {
	switch value := value.(type) {
	case nil:
		return "empty"
	case string:
		return fmt.Sprintf("the text %q", value)
	case []any:
		return "a list"
	case map[string]any, map[any]any:
		return "an object"
	}
	return fmt.Sprint(value)
}

// merge puts values into the settings. Objects merge; of everything else two
// files may say only the same.
func (s settings) merge(r reader, values, into map[string]any, path []string) []error {
	var mistakes []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		here := append(slices.Clip(path), key)
		id := strings.Join(here, ".")
		p := r.data.At(here...)
		value, at := values[key], p.Place()
		old, there := into[key]
		oldMap, wasMap := old.(map[string]any)
		newMap, isMap := value.(map[string]any)
		switch {
		case isMap && (!there || wasMap):
			if !there {
				oldMap = map[string]any{}
				into[key] = oldMap
			}
			mistakes = append(mistakes, s.merge(r, newMap, oldMap, here)...)
		case !there:
			into[key] = value
			s.origins[id] = at
		case !reflect.DeepEqual(old, value):
			mistakes = append(mistakes, fmt.Errorf("%s: %s: is %v here and %v at %s; remove one", at, strings.Join(here, "."), value, old, s.origins[id]))
		}
	}
	return mistakes
}

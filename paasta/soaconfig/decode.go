package soaconfig

import (
	"math"
	"reflect"
	"strings"
	"time"
)

// decode stores what v says, which has passed its check, in the fields of the
// struct at to, by their tags: `soa:"key"`. A duration is in seconds, or, with
// `soa:"key,ms"` and so on, in another unit; `soa:",inline"` is for a struct whose
// keys are v's own. What is absent or null leaves its field as it is.
func decode(v *value, to any) { decodeStruct(v, reflect.ValueOf(to).Elem()) }

func decodeStruct(v *value, to reflect.Value) {
	for f, field := range to.Fields() {
		tag, ok := f.Tag.Lookup("soa")
		if !ok {
			continue
		}
		key, unit, _ := strings.Cut(tag, ",")
		if unit == "inline" {
			decodeStruct(v, field)
		} else if x := v.get(key); x.given() {
			decodeValue(x, field, unit)
		}
	}
}

func decodeValue(v *value, to reflect.Value, unit string) {
	switch to.Kind() {
	case reflect.String:
		to.SetString(v.text)
	case reflect.Int, reflect.Int64:
		if to.Type() == reflect.TypeFor[time.Duration]() {
			to.SetInt(int64(v.duration(unit)))
		} else {
			to.SetInt(int64(v.number))
		}
	case reflect.Float64:
		to.SetFloat(v.number)
	case reflect.Bool:
		to.SetBool(v.truth())
	case reflect.Pointer:
		x := newValue(to.Type().Elem())
		decodeValue(v, x, unit)
		to.Set(x.Addr())
	case reflect.Slice:
		items := v.items
		if v.kind != list {
			items = []*value{v} // one in place of a list of one
		}
		all := reflect.MakeSlice(to.Type(), 0, len(items))
		for _, item := range items {
			x := newValue(to.Type().Elem())
			decodeValue(item, x, unit)
			all = reflect.Append(all, x)
		}
		to.Set(all)
	case reflect.Map:
		all := reflect.MakeMapWithSize(to.Type(), len(v.fields))
		for _, f := range v.fields {
			x := newValue(to.Type().Elem())
			decodeValue(f.value, x, unit)
			all.SetMapIndex(reflect.ValueOf(f.key.text), x)
		}
		to.Set(all)
	case reflect.Interface:
		budget := maxSteps
		if data := v.plainData(&budget); data != nil {
			to.Set(reflect.ValueOf(data))
		}
	case reflect.Struct:
		decodeStruct(v, to)
	default:
		panic("decode into " + to.Type().String()) // a mistake in this package
	}
}

// newValue is a value of a list, a map or behind a pointer, with its defaults.
func newValue(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := reflect.TypeAssert[interface{ setDefaults() }](v); ok {
		d.setDefaults()
	}
	return v.Elem()
}

// duration rounds milliseconds up to whole ones: HAProxy takes no fraction.
func (v *value) duration(unit string) time.Duration {
	switch unit {
	case "us":
		return time.Duration(v.number) * time.Microsecond
	case "ms":
		return time.Duration(math.Ceil(v.number)) * time.Millisecond
	case "haproxy":
		return parseHAProxyTime(v.text)
	}
	return seconds(v.number)
}

package soaconfig

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// An ordered object of JSON, so that a schema reads in the order of its keys.
type ordered []struct {
	name  string
	value any
}

func (o *ordered) add(name string, value any) {
	*o = append(*o, struct {
		name  string
		value any
	}{name, value})
}

// MarshalJSON writes the members in their order.
func (o ordered) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", m.name, value)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return []byte(strings.TrimSpace(b.String())), err
}

// generateSchema writes the schema of a kind of file from its shape.
func generateSchema(name string) ([]byte, error) {
	i := slices.Index(Schemas(), name)
	f := schemaFiles[i]
	var o ordered
	o.add("$schema", "http://json-schema.org/draft-07/schema#")
	o.add("title", f.title)
	if f.names == nil {
		o = append(o, f.shape.schema("", "")...)
	} else {
		var names, definitions ordered
		names.add(templateName, map[string]any{})
		names.add(f.names.re.String(), map[string]any{"$ref": "#/definitions/entry"})
		definitions.add("entry", f.shape.schema("", ""))
		o.add("type", "object")
		o.add("patternProperties", names)
		o.add("additionalProperties", false)
		o.add("definitions", definitions)
	}
	text, err := marshal(o)
	if err != nil {
		return nil, err
	}
	var pretty strings.Builder
	e := json.NewEncoder(&pretty)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(json.RawMessage(text))
	return []byte(pretty.String()), err
}

const templateName = "^_"

// schema is the shape as JSON Schema.
func (s *shape) schema(doc, def string) ordered {
	var o ordered
	if doc != "" {
		if def != "" {
			doc += " Default: " + def + "."
		}
		o.add("description", doc)
	}
	if s.reserved {
		o.add("not", map[string]any{})
	}
	if s.anyKind {
		return o
	}
	if s.either != nil {
		var all []any
		for _, alternative := range s.either {
			all = append(all, alternative.schema("", ""))
		}
		if s.nullable {
			all = append(all, map[string]any{"type": "null"})
		}
		o.add("anyOf", all)
		return o
	}
	if s.orEmpty {
		some := *s
		some.orEmpty = false
		o.add("anyOf", []any{map[string]any{"type": "array", "maxItems": 0}, some.schema("", "")})
		return o
	}
	name := map[kind]string{text: "string", integer: "integer", number: "number", boolean: "boolean", list: "array", object: "object"}[s.kind]
	if s.nullable {
		o.add("type", []string{name, "null"})
	} else {
		o.add("type", name)
	}
	switch s.kind {
	case text:
		if len(s.enum) > 0 {
			o.add("enum", s.enum)
		} else {
			o.add("pattern", s.textPattern().re.String())
		}
	case integer, number:
		switch {
		case s.min != nil && s.above:
			o.add("exclusiveMinimum", *s.min)
		case s.min != nil:
			o.add("minimum", *s.min)
		}
		if s.max != nil {
			o.add("maximum", *s.max)
		}
	case list:
		s.listSchema(&o)
	case object:
		s.objectSchema(&o)
	}
	return o
}

func (s *shape) listSchema(o *ordered) {
	if s.tuple != nil {
		var all []any
		for _, item := range s.tuple {
			all = append(all, item.schema("", ""))
		}
		o.add("items", all)
	} else {
		o.add("items", s.elem.schema("", ""))
	}
	if s.least > 0 {
		o.add("minItems", s.least)
	}
	if s.most > 0 {
		o.add("maxItems", s.most)
	}
	if s.unique {
		o.add("uniqueItems", true)
	}
}

func (s *shape) objectSchema(o *ordered) {
	if s.names != nil {
		var names ordered
		names.add(s.names.re.String(), s.elem.schema("", ""))
		o.add("patternProperties", names)
		o.add("additionalProperties", false)
		return
	}
	var properties ordered
	for _, k := range s.keys {
		properties.add(k.name, k.shape.schema(k.doc, k.def))
	}
	if len(properties) > 0 {
		o.add("properties", properties)
	}
	if len(s.required) > 0 {
		o.add("required", s.required)
	}
	if !s.open {
		o.add("additionalProperties", false)
	}
}

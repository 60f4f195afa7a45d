package soaconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// compiled returns the shipped schema, as an editor would use it.
func compiled(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	text, err := Schema(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fits tells what our own check says to a file, as to its shape alone, and
// returns what of it is used.
func fits(d document, name string) (*value, Problems) {
	for _, f := range schemaFiles {
		if f.name != name {
			continue
		}
		if f.names == nil {
			return readObject(d, f.shape)
		}
		c := &checker{}
		templates := &value{kind: object}
		entries := &value{kind: object, faults: d.root.faults}
		for _, e := range d.root.fields {
			if to := entries; strings.HasPrefix(e.key.text, "_") {
				templates.add(e)
			} else {
				to.add(e)
			}
		}
		if d.root.kind != object {
			entries = d.root
		}
		root := c.check(d.root, entries, mapOf(f.names, f.shape))
		return root, c.problems
	}
	panic("no schema " + name)
}

// agree compares the two on one file. What we use, the schema takes; what it
// refuses, we say something about.
func agree(t interface{ Errorf(string, ...any) }, s *jsonschema.Schema, name, text string) {
	d := parseDocument(name, []byte(text))
	if d.problem != nil || d.root == nil || d.root.kind == bad {
		return
	}
	validate := func(v *value) error {
		budget := maxSteps
		plain, err := json.Marshal(v.plainData(&budget))
		if err != nil {
			return err
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(plain))
		if err != nil {
			return err
		}
		return s.Validate(value)
	}
	used, problems := fits(d, name)
	if len(problems) == 0 {
		if err := validate(used); err != nil {
			t.Errorf("%s: our check says nothing, the schema %v\n%s", name, err, text)
		}
		return
	}
	for _, p := range problems {
		// What we see and JSON Schema cannot.
		for _, only := range []string{"twice", "PaaSTA", "unknown key (did", "whole", "a key must be", "want an object to merge", "aliases", "the alias", "the tag", "nested"} {
			if strings.Contains(p.Text, only) {
				return
			}
		}
	}
	if validate(d.root) == nil {
		t.Errorf("%s: the schema says nothing, our check %v\n%s", name, problems, text)
	}
}

// The files of the tests and of the example tree, each against its schema.
func TestChecksAgreeWithSchemas(t *testing.T) {
	byName := map[string]*jsonschema.Schema{}
	for _, name := range Schemas() {
		byName[name] = compiled(t, name)
	}
	try := func(path, text string) {
		base := strings.TrimSuffix(filepath.Base(path), ".yaml")
		for _, name := range Schemas() {
			if base == name || strings.HasPrefix(base, name+"-") && (name == "marathon" || name == "adhoc") {
				agree(t, byName[name], name, text)
			}
		}
	}
	archives, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			try(f.Name, string(f.Data))
		}
	}
	examples, err := filepath.Glob("../../soa-configs/*/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatal("no example files", err)
	}
	for _, path := range examples {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		try(path, string(text))
	}
}

// Files made from the shapes themselves, mostly right, wrong in any place.
func TestChecksAgreeWithSchemasOnAnything(t *testing.T) {
	for _, f := range schemaFiles {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := compiled(t, f.name)
			rapid.Check(t, func(r *rapid.T) {
				root := draw(r, f.shape)
				if f.names != nil {
					entry := root
					root = map[string]any{rapid.SampledFrom([]string{"main", "a_b", "_x", "Main", "x-"}).Draw(r, "name"): entry}
				}
				text, err := json.Marshal(root) // which is YAML as well
				if err != nil {
					r.Fatal(err)
				}
				agree(r, s, f.name, string(text))
			})
		})
	}
}

// draw makes a value of a shape, or now and then something else.
func draw(r *rapid.T, s *shape) any {
	if rapid.IntRange(0, 19).Draw(r, "wrong") == 0 {
		return rapid.SampledFrom([]any{nil, true, "text", "", -1, 0, 1, 70000, 0.5, []any{}, []any{"a"}, map[string]any{}, map[string]any{"a": 1}}).Draw(r, "anything")
	}
	if s.either != nil {
		return draw(r, rapid.SampledFrom(s.either).Draw(r, "either"))
	}
	if s.anyKind {
		return rapid.SampledFrom([]any{"x", 1, []any{1}}).Draw(r, "any")
	}
	switch s.kind {
	case text:
		if len(s.enum) > 0 {
			return rapid.SampledFrom(s.enum).Draw(r, "enum")
		}
		return rapid.SampledFrom([]string{
			"a", "main", "web.main", "prod.main", "/status", "/a/{id}", "a b", "region:uswest1", "10.0.0.0/8", "10m", "https://x/y", "GET",
			"x\ny", "200-399", "0123456789abcdef", "redis:7", "HOST", "-", ".", "/a b", "{cluster}.x", "a'b", "\x01",
		}).Draw(r, "text")
	case integer:
		return rapid.SampledFrom([]int{-2, -1, 0, 1, 2, 50, 100, 1000, 20001, 65536, 1 << 40}).Draw(r, "integer")
	case number:
		return rapid.SampledFrom([]float64{-1, 0, .1, 1, 1.5, 33, 100, 1e7, 1e12}).Draw(r, "number")
	case boolean:
		return rapid.Bool().Draw(r, "bool")
	case list:
		items := []any{}
		if s.tuple != nil {
			for _, item := range s.tuple[:rapid.IntRange(max(0, len(s.tuple)-1), len(s.tuple)).Draw(r, "items")] {
				items = append(items, draw(r, item))
			}
			return items
		}
		for range rapid.IntRange(0, 3).Draw(r, "items") {
			items = append(items, draw(r, s.elem))
		}
		return items
	}
	m := map[string]any{}
	if s.names != nil {
		for range rapid.IntRange(0, 3).Draw(r, "fields") {
			m[rapid.SampledFrom([]string{"main", "FOO", "/a", "X-A", "region:a", "a b", "1", "nofile", "Ä"}).Draw(r, "name")] = draw(r, s.elem)
		}
		return m
	}
	for _, k := range s.required {
		if rapid.IntRange(0, 9).Draw(r, "required") > 0 {
			m[k] = draw(r, s.byName[k])
		}
	}
	for range rapid.IntRange(0, 4).Draw(r, "fields") {
		if len(s.keys) == 0 {
			break
		}
		k := rapid.SampledFrom(s.keys).Draw(r, "key")
		m[k.name] = draw(r, k.shape)
	}
	if rapid.IntRange(0, 9).Draw(r, "other") == 0 {
		m[fmt.Sprintf("zz%d", rapid.IntRange(0, 9).Draw(r, "unknown"))] = 1
	}
	return m
}

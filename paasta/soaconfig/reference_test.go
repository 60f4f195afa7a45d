package soaconfig

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestReferenceIsFresh writes docs/reference/soa-configs.md from the keys that
// files are checked against (go test -update).
func TestReferenceIsFresh(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# soa-configs

Everything that a team decides about its service is in one directory of YAML files, named after the service.
This page is written from the tables that ` + "`paasta validate`" + ` checks files against; do not edit it.

- **Names** of services and instances are lower-case letters, digits, ` + "`-` and `_`" + `, without dots and without ` + "`--`" + `.
- **Templates**: top-level keys that begin with ` + "`_`" + ` run nothing. They are there for anchors and merge keys (` + "`<<: *name`" + `).
- **Defaults**: a key of an instance that stands in service.yaml is the default for all instances of the service; objects
  (` + "`env`, `monitoring`" + `) merge key by key, lists and everything else are replaced.
- **Problems** have one of three classes, and concern the entry that they are in and no other.
  *Broken* is what cannot run: what was last valid stands in its place, and deploys and stops hold for that. *Wrong* is a mistake that stops nothing: the rest of
  the file holds, and the key counts as absent unless the message says otherwise. ` + "`paasta validate`" + ` fails for both.
  A *note* is no mistake, for instance a key that does nothing, or a value that PaaSTA reads otherwise.
- **Unknown keys** are wrong, so that a newer version can have more of them. A namespace with a key that is reserved, or with
  a slip of the pen in the name of one that must not be missed, is broken.
- **Nothing in monitoring.yaml, deploy.yaml or dependencies.yaml stops a deployment**, nor does a broken one of these files. The team of
  a running app stays while monitoring.yaml cannot be read.
- An empty file counts as unreadable, not as "nothing": write ` + "`{}`" + `, or delete the file.
- Files of up to 1 MB are read. ` + "`.yml`" + ` is not.
- **In editors**: ` + "`paasta validate --schema NAME`" + ` prints a JSON Schema (draft 7). With yaml-language-server, put
  ` + "`# yaml-language-server: $schema=PATH`" + ` into the first line, or map file names to schemas in the editor's settings.

Durations that Marathon and HAProxy take whole (seconds and milliseconds) may be written with a fraction, which is wrong: they are rounded up.

What needs two keys or files is checked as well: ` + "`cmd` with `args`, `min_instances` above `max_instances`" + `, a deploy group that is no step of
deploy.yaml, a registration that no smartstack.yaml has, one ` + "`proxy_port`" + ` for two namespaces, ` + "`discover` without its `advertise`" + `,
a file for an unknown cluster.
`)
	b.WriteString(`
## YAML 1.1 and 1.2

PaaSTA reads soa-configs with PyYAML, which knows YAML 1.1. One rule holds here: a key that wants a text takes the scalar **as it is written**; a key that
wants a number or a boolean takes what both understand. Where PyYAML's reading is another one, ` + "`paasta validate`" + ` says so: as a note for a text,
as *wrong* for a number that PaaSTA takes for a text or another number. An *error* breaks the entry. Quotes make everything a text, for both.
Of a key that is there twice the last counts, as in PyYAML.

`)
	b.WriteString(yamlTable())
	for _, f := range schemaFiles {
		file, title, _ := strings.Cut(f.title, ": ")
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n", file, strings.ToUpper(title[:1])+title[1:])
		fmt.Fprintf(&b, "Schema: `paasta validate --schema %s`.\n", f.name)
		switch f.name {
		case "service":
			b.WriteString("\nBesides these keys, it may have those of monitoring.yaml (as the weakest place for them) and of marathon-<cluster>.yaml (as defaults).\n")
			table(&b, anObject(serviceKeys...))
			continue
		case "dependencies":
			b.WriteString("\nOne key a reference (`dependencies_reference` of an instance), each with a list of objects that have one of the first three keys.\n")
			table(&b, f.shape.elem.elem)
			continue
		case "adhoc":
			b.WriteString("\nThe instance `interactive` has other defaults: cpus 4, mem 10240.\n")
		}
		table(&b, f.shape)
	}
	golden(t, "../../docs/reference/soa-configs.md", b.Bytes())
}

// table writes the keys of an object, those of objects inside with a dot.
func table(b *bytes.Buffer, s *shape) {
	b.WriteString("\n| key | type | default | |\n|---|---|---|---|\n")
	rows(b, s, "")
}

func rows(b *bytes.Buffer, s *shape, prefix string) {
	for _, k := range s.keys {
		def := k.def
		if def != "" && !strings.ContainsAny(def, " `") {
			def = "`" + def + "`"
		}
		required := ""
		for _, name := range s.required {
			if name == k.name {
				required = " Required."
			}
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s%s |\n", prefix, k.name, kindOf(k.shape), def, k.doc, required)
		inner := k.shape
		suffix := "."
		for inner.elem != nil {
			if inner.kind == list {
				suffix = "[]" + suffix
			} else {
				suffix = ".*" + suffix
			}
			inner = inner.elem
		}
		if len(inner.keys) > 0 && k.name != "monitoring" {
			rows(b, inner, prefix+k.name+suffix)
		}
	}
}

// kindOf says what a key takes, with its bounds.
func kindOf(s *shape) string {
	var text string
	switch {
	case s.either != nil:
		var all []string
		for _, alternative := range s.either {
			all = append(all, kindOf(alternative))
		}
		text = strings.Join(all, " or ")
	case len(s.enum) > 0:
		text = "`" + strings.Join(s.enum, "`, `") + "`"
	case s.kind == list && s.elem != nil:
		text = "list of " + strings.TrimPrefix(kindOf(s.elem), "a ")
	case s.names != nil:
		text = "map to " + kindOf(s.elem)
	default:
		text = strings.TrimPrefix(strings.TrimPrefix(s.describe(), "an "), "a ")
	}
	switch {
	case s.min != nil && *s.min == 0 && !s.above && s.max != nil && *s.max >= 1e5:
		text += " ≥ 0"
	case s.min != nil && s.above && s.max != nil && *s.max >= 1e4:
		text += " > " + decimal(*s.min)
	case s.min != nil && s.max != nil && *s.max < 1e7:
		low := "from"
		if s.above {
			low = "above"
		}
		text += " " + low + " " + decimal(*s.min) + " up to " + decimal(*s.max)
	case s.min != nil:
		text += " ≥ " + decimal(*s.min)
	}
	if s.nullable {
		text += " or null"
	}
	return text
}

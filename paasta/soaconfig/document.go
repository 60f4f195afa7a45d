package soaconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds a file; the largest real ones have a few thousand lines.
const maxFile = 1 << 20

// maxDepth bounds nesting. Nothing that we read goes deeper than six.
const maxDepth = 50

// maxMerged bounds the keys that << copies in one file.
const maxMerged = 50_000

// A document is one file as values with places, or the problem that kept it
// from becoming one.
type document struct {
	file    string
	root    *value // nil if the file is not there, empty, or no YAML
	problem *Problem
	exists  bool
}

// readDocument reads and parses a file. One that is not there is no problem.
func readDocument(path string) document {
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr != nil {
			return document{file: path}
		}
		err = errors.New("is a link to nothing")
	}
	if err != nil {
		return document{file: path, exists: true, problem: &Problem{File: path, Text: reason(err)}}
	}
	return parseDocument(path, text)
}

// readFile reads at most maxFile bytes of a regular file.
func readFile(path string) ([]byte, error) {
	// Without O_NONBLOCK a named pipe would keep us waiting for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		what := map[fs.FileMode]string{fs.ModeDir: "a directory", fs.ModeNamedPipe: "a named pipe", fs.ModeSocket: "a socket"}[info.Mode().Type()]
		if what == "" {
			what = "a device"
		}
		return nil, fmt.Errorf("is %s and no file", what)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("is %d bytes long; files of up to %d are read", info.Size(), maxFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("is longer than the %d bytes up to which files are read", maxFile)
	}
	return text, err
}

// reason is err without the path, which a Problem names anyway.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return "cannot be read: " + p.Err.Error()
	}
	return err.Error()
}

// parseDocument parses text, which came from file.
func parseDocument(file string, text []byte) document {
	d := document{file: file, exists: true}
	fail := func(line, column int, format string, args ...any) document {
		d.problem = &Problem{File: file, Line: line, Column: column, Text: fmt.Sprintf(format, args...)}
		return d
	}
	if at := invalidUTF8(text); at >= 0 {
		line, column := position(text, at)
		return fail(line, column, "is no YAML: byte 0x%02x is not part of any UTF-8 text", text[at])
	}
	if at := bytes.IndexByte(text, 0); at >= 0 {
		line, column := position(text, at)
		return fail(line, column, "is no YAML: a zero byte")
	}
	var node yaml.Node
	if err := yaml.Load(text, &node); err != nil {
		if at := secondDocument(text); at > 0 && strings.Contains(err.Error(), "found multiple") {
			return fail(at, 1, "a second document begins here; only one is read")
		}
		if strings.Contains(err.Error(), "no documents in stream") {
			return d // nothing but comments
		}
		if load, ok := errors.AsType[*yaml.LoadError](err); ok {
			line, column := max(load.Mark.Line, 1), max(load.Mark.Column, 1)
			what := load.Message
			if load.ContextMsg != "" {
				what += " (" + load.ContextMsg + fmt.Sprintf(", line %d)", max(load.ContextMark.Line, 1))
			}
			return fail(line, column, "is no YAML: %s", what)
		}
		return fail(1, 1, "is no YAML: %v", err)
	}
	if node.Kind != yaml.DocumentNode || len(node.Content) != 1 {
		return d
	}
	b := builder{file: file, anchored: map[*yaml.Node]*value{}}
	root := b.build(node.Content[0], 0)
	if root.kind == null {
		return d
	}
	d.root = root
	return d
}

// invalidUTF8 returns the offset of the first bad byte, or -1.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

func position(text []byte, at int) (line, column int) {
	line = 1 + bytes.Count(text[:at], []byte("\n"))
	return line, at - bytes.LastIndexByte(text[:at], '\n')
}

// secondDocument returns the line of the second "---", or 0.
func secondDocument(text []byte) int {
	content := false
	line := 0
	for l := range bytes.Lines(text) {
		line++
		switch {
		case bytes.HasPrefix(l, []byte("---")) && content:
			return line
		case len(bytes.TrimSpace(l)) > 0 && l[0] != '#' && l[0] != '%':
			content = true // a first "---" counts too: a second one ends it
		}
	}
	return 0
}

// A builder turns nodes into values. An alias becomes the very value of its
// anchor, so a file that multiplies aliases costs nothing here; whoever walks
// the values counts his steps.
type builder struct {
	file     string
	anchored map[*yaml.Node]*value // nil while it is being built
	merged   int                   // fields copied by <<, which could multiply, too
}

func (b *builder) build(n *yaml.Node, depth int) *value {
	v := &value{file: b.file, line: int32(n.Line), column: int32(n.Column)}
	if depth > maxDepth {
		return v.broken("is nested more than %d deep", maxDepth)
	}
	if n.Kind == yaml.AliasNode {
		at, known := b.anchored[n.Alias]
		if known && at == nil {
			return v.broken("the alias *%s is inside of what it stands for", n.Value)
		}
		if !known {
			at = b.build(n.Alias, depth)
		}
		return at
	}
	if n.Anchor != "" {
		b.anchored[n] = nil
		defer func() { b.anchored[n] = v }()
	}
	switch n.Kind {
	case yaml.ScalarNode:
		v.scalar(n)
	case yaml.SequenceNode:
		v.kind = list
		v.items = make([]*value, len(n.Content))
		for i, c := range n.Content {
			v.items[i] = b.build(c, depth+1)
		}
	case yaml.MappingNode:
		v.kind = object
		b.fields(v, n, depth)
	default:
		v.broken("is no scalar, list or object")
	}
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!timestamp", "!!merge":
	default:
		v.broken("the tag %s is not supported", tag)
	}
	return v
}

// fields fills an object from a mapping: its own keys first, then, for keys
// that it lacks, those that it merges with <<.
func (b *builder) fields(v *value, n *yaml.Node, depth int) {
	v.fields = make([]field, 0, len(n.Content)/2)
	var merges []*value
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.ShortTag() == "!!merge" {
			merges = append(merges, b.build(n.Content[i+1], depth+1))
			continue
		}
		key := b.build(k, depth+1)
		if key.kind == list || key.kind == object || key.kind == bad {
			v.faults = append(v.faults, fault{at: key, text: "a key must be a text"})
			continue
		}
		if old := v.find(key.text); old != nil {
			v.faults = append(v.faults, fault{key, key.text, fmt.Sprintf("is there twice, first in line %d: this one counts, as in PaaSTA", old.key.line), Wrong})
		}
		v.set(field{key, b.build(n.Content[i+1], depth+1)})
	}
	for _, m := range merges {
		if m.kind != list {
			m = &value{kind: list, items: []*value{m}}
		}
		for _, source := range m.items {
			if source.kind == bad {
				v.faults = append(v.faults, fault{at: source, name: "<<", text: source.text})
				continue
			}
			if source.kind != object {
				v.faults = append(v.faults, fault{at: source, name: "<<", text: "is " + source.describe() + ", want an object to merge"})
				continue
			}
			if b.merged += len(source.fields) + len(source.faults); b.merged > maxMerged {
				v.broken("<< merges more than %d keys in this file", maxMerged)
				return
			}
			v.faults = append(v.faults, source.faults...)
			for _, f := range source.fields {
				if v.find(f.key.text) == nil {
					v.add(f)
				}
			}
		}
	}
}

// scalar reads a scalar as YAML 1.2 means it, and plain yes and no as words
// that a key for booleans may still take as such.
func (v *value) scalar(n *yaml.Node) {
	v.text = n.Value
	v.plain = n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	switch n.ShortTag() {
	case "!!null":
		v.kind = null
	case "!!bool":
		v.kind, v.number = boolean, 0
		if strings.EqualFold(n.Value, "true") {
			v.number = 1
		}
	case "!!int":
		v.kind = integer
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && !strings.HasPrefix(strings.TrimLeft(n.Value, "+-"), "0") {
			v.number = float64(i)
			return
		}
		var i int64 // with base prefixes and underscores
		if err := n.Load(&i); err != nil {
			v.kind = text // more than anybody can mean
			return
		}
		v.number = float64(i)
	case "!!float":
		v.kind = number
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil {
			err = n.Load(&f)
		}
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			v.kind = text
			return
		}
		v.number = f
		if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			v.kind = integer // JSON Schema's integers
		}
	default:
		v.kind = text
	}
}

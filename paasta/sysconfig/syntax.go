package sysconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// What decoders of YAML say, and where: "yaml: line 3: did not find …", or, in
// a list of their own, "line 3: cannot unmarshal …".
var (
	yamlAt    = regexp.MustCompile(`(?:^yaml: |\n\s*)line (\d+): (.*)`)
	yamlTwice = regexp.MustCompile(`^mapping key "(.*)" already defined at line (\d+)$`)
)

// unreadable turns what a decoder says of a file into one line that begins with
// the place.
func unreadable(file string, text []byte, err error) error {
	if filepath.Ext(file) == ".json" {
		if at, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("%s: is no JSON: %w", origin{file, lineAt(text, at.Offset)}, err)
		}
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s: is no object: want KEY: VALUE in it", file)
		}
		return fmt.Errorf("%s: is no JSON: %w", file, err)
	}
	found := yamlAt.FindStringSubmatch(err.Error())
	if found == nil {
		return fmt.Errorf("%s: is no YAML: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	line, said := found[1], found[2]
	if twice := yamlTwice.FindStringSubmatch(said); twice != nil {
		return fmt.Errorf("%s:%s: %s: is there twice, first in line %s", file, line, twice[1], twice[2])
	}
	if strings.HasPrefix(said, "cannot unmarshal") {
		return fmt.Errorf("%s:%s: is no object: want KEY: VALUE in it", file, line)
	}
	return fmt.Errorf("%s:%s: is no YAML: %s", file, line, said)
}

// lineAt is the line of the byte at offset.
func lineAt(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(int(offset), len(text))], []byte("\n"))
}

// duplicates finds a key that one JSON object has twice, which encoding/json
// does not mind.
func duplicates(file string, text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	var value func() error
	value = func() error {
		token, err := d.Token()
		if err != nil {
			return err
		}
		open, ok := token.(json.Delim)
		if !ok {
			return nil
		}
		seen := map[string]bool{}
		for d.More() {
			if open == '{' {
				token, err := d.Token()
				if err != nil {
					return err
				}
				key, _ := token.(string)
				if seen[key] {
					return fmt.Errorf("%s: %s: is there twice in one object", origin{file, lineAt(text, d.InputOffset())}, key)
				}
				seen[key] = true
			}
			if err := value(); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	}
	if err := value(); err != nil && !errors.Is(err, io.EOF) {
		// What is no JSON is for its decoder to tell, but not what we found.
		if _, broken := errors.AsType[*json.SyntaxError](err); !broken {
			return err
		}
	}
	return nil
}

package definition

import (
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong with a definition, where it is, e.g.
// "/healthChecks(0)/timeoutSeconds".
type Problem struct {
	Path   string   `json:"path"`
	Errors []string `json:"errors"`
}

// An InvalidError says all that is wrong with a definition.
type InvalidError struct {
	Message  string // "Invalid JSON" for wrong types, "Object is not valid" for wrong values
	Problems []Problem
}

// Error lists the problems.
func (e *InvalidError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, p.Path+": "+strings.Join(p.Errors, ", "))
	}
	return e.Message + ": " + strings.Join(lines, "; ")
}

// Invalid is the error for one wrong value.
func Invalid(path, format string, args ...any) error {
	return &InvalidError{"Object is not valid", []Problem{{path, []string{fmt.Sprintf(format, args...)}}}}
}

// InvalidJSON is the error for one wrong type.
func InvalidJSON(path, code string) error {
	return &InvalidError{"Invalid JSON", []Problem{{path, []string{code}}}}
}

// problems collects in order of appearance, one entry a path.
type problems []Problem

func (p *problems) add(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path == "" {
		path = "/"
	}
	for i := range *p {
		if (*p)[i].Path == path {
			if !slices.Contains((*p)[i].Errors, text) {
				(*p)[i].Errors = append((*p)[i].Errors, text)
			}
			return
		}
	}
	*p = append(*p, Problem{path, []string{text}})
}

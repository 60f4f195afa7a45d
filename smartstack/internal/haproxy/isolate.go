package haproxy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Isolate finds the sections that HAProxy refuses, by name, each with what it
// says, so that one broken service is left out and all others go on. check
// tells whether the given sections make a config that HAProxy accepts; an error
// of it that is no *ConfigError ends the search and is returned.
func Isolate(sections []*Section, check func([]*Section) error) (map[string]error, error) {
	err := check(sections)
	if err == nil {
		return nil, nil
	}
	var refused *ConfigError
	if !errors.As(err, &refused) {
		return nil, err
	}
	// Most refusals name the section. If leaving those out is enough, the search
	// is short.
	if named := Accused(refused.Output, sections); len(named) > 0 {
		broken := map[string]error{}
		suspects := slices.DeleteFunc(slices.Clone(sections), func(s *Section) bool { return !named[s.Service.Name] })
		if err := bisect(suspects, check, broken); err != nil {
			return nil, err
		}
		err := check(slices.DeleteFunc(slices.Clone(sections), func(s *Section) bool { return broken[s.Service.Name] != nil }))
		if err == nil {
			return broken, nil
		}
		if !errors.As(err, &refused) {
			return nil, err
		}
	}
	if err := check(nil); err != nil {
		return nil, fmt.Errorf("without any service: %w", err)
	}
	broken := map[string]error{}
	return broken, bisect(sections, check, broken)
}

// bisect puts the refused sections of sections into broken.
func bisect(sections []*Section, check func([]*Section) error, broken map[string]error) error {
	if len(sections) == 0 {
		return nil
	}
	// Alone, without those that it may refer to: references are made only to what
	// is there, so they are never what is wrong.
	alone := make([]*Section, len(sections))
	for i, s := range sections {
		if s.Service.ProxiedThrough != "" {
			service := s.Service
			service.ProxiedThrough = ""
			s = NewSection(service)
		}
		alone[i] = s
	}
	err := check(alone)
	var refused *ConfigError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refused):
		return err
	case len(sections) == 1:
		broken[sections[0].Service.Name] = refused
		return nil
	}
	half := len(sections) / 2
	return errors.Join(bisect(sections[:half], check, broken), bisect(sections[half:], check, broken))
}

var quoted = regexp.MustCompile(`(?i)(?:proxy|frontend|backend|server) '?([A-Za-z0-9_.:-]+)`)

// Accused returns the names of the sections that a refusal names.
func Accused(output string, sections []*Section) map[string]bool {
	byName := map[string]string{}
	for _, s := range sections {
		byName[s.Service.Name], byName[FrontendName(s.Service.Name)] = s.Service.Name, s.Service.Name
		for _, b := range s.Service.Backends {
			byName[b.Name] = s.Service.Name
		}
	}
	named := map[string]bool{}
	for _, m := range quoted.FindAllStringSubmatch(output, -1) {
		if name, ok := byName[strings.TrimRight(m[1], ":.")]; ok {
			named[name] = true
		}
	}
	return named
}

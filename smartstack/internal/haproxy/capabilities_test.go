package haproxy

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Version{
		"2.6.12-1+deb12u4": {2, 6},
		"3.2.26-1":         {3, 2},
		"3.10.0":           {3, 10},
		"3.5-dev3-a1b2c3":  {3, 5},
		"1.8.19-1+deb10u3": {1, 8},
		"2.6":              {2, 6},
		"master-abc":       {},
		"":                 {},
	} {
		if got := ParseVersion(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	order := []Version{{1, 6}, {1, 8}, {2, 4}, {2, 10}, {3, 0}, {3, 2}, {}}
	for i, a := range order {
		for j, b := range order {
			if a.Before(b) != (i < j) {
				t.Errorf("%v before %v: %v", a, b, a.Before(b))
			}
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	if !slices.IsSortedFunc(Capabilities, func(a, b *Capability) int {
		if a.Since.Before(b.Since) {
			return -1
		}
		return 0
	}) {
		t.Error("not in the order of versions")
	}
	for _, v := range append(slices.Clone(Tested), Version{}) {
		if lost := v.Lost(); len(lost) > 0 || !v.Dynamic() {
			t.Errorf("with %v there is lost: %q", v, lost)
		}
	}
	if old := (Version{2, 4}); old.Dynamic() || len(old.Lost()) != 1 || old.Untested() {
		t.Errorf("%v: %q", old, old.Lost())
	}
	if v := (Version{3, 5}); !v.Untested() || !(Version{}).Untested() || (Version{3, 4}).Untested() {
		t.Error("what is newer than the tests")
	}
}

// What follows the reason of a refusal is no part of it.
func TestReasons(t *testing.T) {
	p := Process{Binary: filepath.Join(t.TempDir(), "haproxy"), Dir: t.TempDir()}
	for said, want := range map[string]string{
		`[NOTICE]   (30688) : haproxy version is 3.4.7-1
[ALERT]    (30688) : config : parsing [/tmp/bad.cfg:2] : unknown keyword 'nonsense' in 'global' section
[ALERT]    (30688) : config : Error(s) found in configuration file : /tmp/bad.cfg
[ALERT]    (30688) : config : Fatal errors found in configuration.
[ALERT]    (30686) : Process 30688 exited with code 1 (Exit)
`: "config : parsing [/tmp/bad.cfg:2] : unknown keyword 'nonsense' in 'global' section",
		"[ALERT] 334/004919 (30674) : Starting frontend web.main: cannot bind socket [127.0.0.1:80]\n":                                      "Starting frontend web.main: cannot bind socket [127.0.0.1:80]",
		"[ALERT]    (1) : Process 2 exited with code 1 (Exit)\n":                                                                            "exit status 1\n[ALERT]    (1) : Process 2 exited with code 1 (Exit)",
		"[WARNING]  (1) : config : nothing is wrong\n[ALERT]    (1) : [haproxy.main()] Cannot fork.\n[NOTICE]   (1) : path to executable\n": "[haproxy.main()] Cannot fork.",
	} {
		script := "#!/bin/sh\ncat <<'END'\n" + said + "END\nexit 1\n"
		if err := os.WriteFile(p.Binary, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		err := p.run(t.Context(), Started)
		refused, ok := errors.AsType[*ConfigError](err)
		if !ok || strings.TrimSpace(refused.Output) != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

package pattern

import (
	"strings"
	"testing"
	"time"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression, value string
		want              bool
	}{
		{"default", "default", true},
		{"default", "defaults", false},
		{"fault", "default", false},
		{"foo.*", "foobar", true},
		{"a|b", "b", true},
		{"a|b", "ab", false},
		{"a{2}", "aa", true},
		{"(?!x).*", "default", true},
		{"(?!x).*", "xx", false},
		{"(?!x).*|y", "xx", false},
		{"(?<=a)b", "ab", false},
		{`(a)\1`, "aa", true},
		{`(a)\1`, "ab", false},
		{"", "", true},
		{"", "a", false},
	} {
		if got, err := Matches(tt.expression, tt.value); got != tt.want || err != nil {
			t.Errorf("%q matches %q: %t, %v", tt.expression, tt.value, got, err)
		}
	}
	for _, expression := range []string{"(", "a{2", "*", "(?!x"} {
		if got, err := Matches(expression, "("); expression != "a{2" && err == nil || got {
			t.Errorf("%q: %t, %v", expression, got, err)
		}
	}
}

// One that takes for ever does not stop whoever asks.
func TestMatchesEnds(t *testing.T) {
	t.Parallel()
	began := time.Now()
	if got, err := Matches("(?!x)(a+)+", strings.Repeat("a", 60)+"!"); got || err != nil || time.Since(began) > 20*time.Second {
		t.Errorf("%t, %v after %s", got, err, time.Since(began))
	}
}

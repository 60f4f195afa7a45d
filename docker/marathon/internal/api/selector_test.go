package api

import "testing"

func TestSelectors(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"tier": "web", "a/b": "x y"}
	for text, want := range map[string]bool{
		"tier": true, " tier ": true, "none": false, "tier==web": true, "tier == db": false, "tier!=db": true, "none!=db": false,
		"tier in (db, web)": true, "tier in(db)": false, "tier notin (db)": true, "none notin (db)": false,
		"tier==web, tier!=db": true, "tier,none": false, `a\/b==x\ y`: true,
	} {
		selected, err := parseSelector(text)
		if err != nil || selected(labels) != want {
			t.Errorf("%s: %v, want %t", text, err, want)
		}
	}
	for _, text := range []string{"", "a==", "a in", "a in (b", "a in ()", "a b", "a,", ",", "a=b"} {
		if _, err := parseSelector(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

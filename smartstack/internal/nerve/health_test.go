package nerve

import "testing"

func TestHealth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		rise, fall int
		wasUp      bool
		results    string // + pass, - failure
		want       string // U up, D down, after each
	}{
		{"one pass is enough", 1, 1, false, "+", "U"},
		{"a new service must rise", 3, 1, false, "+++", "DDU"},
		{"a failure starts the rise anew", 2, 1, false, "+-++", "DDDU"},
		{"one failure of three is forgiven", 1, 3, false, "+--+---", "UUUUUUD"},
		{"a published service stays without rising again", 3, 2, true, "+-+--", "UUUUD"},
		{"a published service that fails goes", 3, 1, true, "-", "D"},
	}
	for _, tt := range tests {
		h := health{rise: tt.rise, fall: tt.fall}
		if tt.wasUp {
			h.assumeUp()
		}
		var got []byte
		for _, r := range tt.results {
			if h.add(r == '+') {
				got = append(got, 'U')
			} else {
				got = append(got, 'D')
			}
		}
		if string(got) != tt.want {
			t.Errorf("%s: %s gives %s, want %s", tt.name, tt.results, got, tt.want)
		}
	}
}

package spelling

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"cluster", "clusters", "norcal-prod", "a", "proxy_port"}
	for word, want := range map[string]string{
		"clutser": "cluster", "clusterss": "clusters", "norcal-prd": "norcal-prod", "prod": "", "b": "", "": "", "proxyport": "proxy_port",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	for word, want := range map[string]string{"Proxy-Port": "proxy_port", "proxy_pot": "proxy_port", "clu": "", "cluster1": ""} {
		if got := Misspelled(word, known); got != want {
			t.Errorf("Misspelled(%q) = %q, want %q", word, got, want)
		}
	}
}

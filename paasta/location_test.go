package paasta

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var west = Locations{
	Types: []string{"ecosystem", "superregion", "region", "habitat"},
	Parents: map[string]string{
		"superregion:west": "ecosystem:prod",
		"region:west1":     "superregion:west",
		"region:west2":     "superregion:west",
		"habitat:west1a":   "region:west1",
		"habitat:west1b":   "region:west1",
		"habitat:loop":     "habitat:loop",
	},
}

func TestConvert(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, location, to string
		want               []string
	}{
		{"the same type", "region:west1", "region", []string{"region:west1"}},
		{"up one", "habitat:west1a", "region", []string{"region:west1"}},
		{"up to the top", "habitat:west1a", "ecosystem", []string{"ecosystem:prod"}},
		{"down", "region:west1", "habitat", []string{"habitat:west1a", "habitat:west1b"}},
		{"down two", "superregion:west", "habitat", []string{"habitat:west1a", "habitat:west1b"}},
		{"an unknown place", "region:mars", "ecosystem", nil},
		{"an unknown type", "planet:mars", "ecosystem", nil},
		{"a cycle ends", "habitat:loop", "region", nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, west.Convert(tt.location, tt.to)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	here := map[string]string{"ecosystem": "prod", "superregion": "west", "region": "west1", "habitat": "west1a"}
	tests := []struct {
		name      string
		advertise []string
		extra     map[string][]string
		want      []string
	}{
		{"its own region", []string{"region"}, nil, []string{"region:west1"}},
		{"an unknown type gives none", []string{"planet"}, nil, nil},
		{"also in another region", []string{"region"}, map[string][]string{"region:west1": {"region:west2"}}, []string{"region:west1", "region:west2"}},
		{"not from another region", []string{"region"}, map[string][]string{"region:west2": {"region:west1"}}, []string{"region:west1"}},
		{"a broad destination reaches all in it", []string{"habitat"}, map[string][]string{"superregion:west": {"region:west1"}}, []string{"habitat:west1a", "habitat:west1b"}},
		{"a narrow destination does not widen", []string{"superregion"}, map[string][]string{"region:west1": {"region:west2"}}, []string{"superregion:west"}},
	}
	for _, tt := range tests {
		got := slices.Sorted(maps.Keys(west.Labels(here, tt.advertise, tt.extra)))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestDiscovered(t *testing.T) {
	t.Parallel()
	here := map[string]string{"superregion": "west", "region": "west1", "habitat": "west1a"}
	for _, tc := range []struct {
		name, discover string
		advertise      []string
		here           map[string]string
		want           []string
	}{
		{"its own type", "region", []string{"region"}, here, []string{"region:west1"}},
		{"and the wider ones that are advertised", "habitat", []string{"habitat", "superregion"}, here, []string{"habitat:west1a", "superregion:west"}},
		{"not the narrower ones", "superregion", []string{"habitat", "superregion"}, here, []string{"superregion:west"}},
		{"nobody knows where it is", "region", []string{"region"}, nil, nil},
		{"a type that nobody knows", "planet", []string{"planet"}, here, nil},
	} {
		if got := west.Discovered(tc.here, tc.discover, tc.advertise); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	for _, tc := range []struct {
		name      string
		locations []string
		labels    map[string]string
		want      bool
	}{
		{"there", []string{"region:west1"}, map[string]string{"region:west1": ""}, true},
		{"in the wider one", []string{"habitat:west1a", "region:west1"}, map[string]string{"region:west1": ""}, true},
		{"elsewhere", []string{"region:west1"}, map[string]string{"region:west2": ""}, false},
		{"only its habitat is advertised", []string{"region:west1"}, map[string]string{"habitat:west1a": ""}, false},
		{"everywhere", []string{"region:west1"}, map[string]string{"paasta_cluster": "x"}, true},
		{"whoever sees everything", nil, map[string]string{"region:west2": ""}, true},
	} {
		if got := west.Within(tc.locations, tc.labels); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

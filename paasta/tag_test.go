package paasta_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/paasta"
)

const (
	x = "1111111111111111111111111111111111111111"
	y = "2222222222222222222222222222222222222222"
)

func TestTagRef(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]paasta.Tag{
		"refs/tags/paasta-testcluster.everything-20160809T105558-deploy": {Target: "testcluster.everything", Kind: paasta.TagDeploy},
		"refs/tags/paasta-norcal-prod.main-20160809T105558-start":        {Target: "norcal-prod.main", Kind: paasta.TagStart},
		"refs/tags/paasta-norcal-prod.main-20160809T105558-stop":         {Target: "norcal-prod.main", Kind: paasta.TagStop},
		"refs/tags/paasta-paasta-a-20150101T000000-20160809T105558-stop": {Target: "paasta-a-20150101T000000", Kind: paasta.TagStop},
	} {
		want.Time, want.SHA = time.Date(2016, 8, 9, 10, 55, 58, 0, time.UTC), x
		if got := want.Ref(); got != ref {
			t.Errorf("Ref(%+v) = %s, want %s", want, got, ref)
		}
		got, err := paasta.ParseTag(ref, x)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("ParseTag(%s): %v\n%s", ref, err, diff)
		}
	}
	for _, ref := range []string{
		"", "refs/tags/v1", "refs/heads/paasta-a-20160809T105558-deploy", "refs/tags/paasta-", "refs/tags/paasta-20160809T105558-deploy",
		"refs/tags/paasta--20160809T105558-deploy", "refs/tags/paasta-a-20160809T105558", "refs/tags/paasta-a-20160809T105558-Deploy",
		"refs/tags/paasta-a-20160809T1055588-deploy", "refs/tags/paasta-a-20161309T105558-deploy", "refs/tags/paasta-a-20160809T105558.5-deploy",
		"refs/tags/paasta-a-20160809T105558-deploy^{}", "refs/tags/paasta-a b-20160809T105558-deploy",
	} {
		if got, err := paasta.ParseTag(ref, x); err == nil {
			t.Errorf("ParseTag(%q) = %+v", ref, got)
		}
	}
	if _, err := paasta.ParseTag("refs/tags/paasta-a-20160809T105558-deploy", "abc"); err == nil {
		t.Error("took a short sha")
	}
}

func TestTagComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := paasta.Tag{
			Target: rapid.StringMatching(`[a-zA-Z0-9._T-]{1,30}`).Draw(t, "target"),
			Time:   time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "time"), 0).UTC(),
			Kind:   rapid.SampledFrom([]paasta.TagKind{paasta.TagDeploy, paasta.TagStart, paasta.TagStop}).Draw(t, "kind"),
			SHA:    rapid.StringMatching(`[0-9a-f]{40}`).Draw(t, "sha"),
		}
		if want.Check() != nil {
			t.Skip(want.Check())
		}
		got, err := paasta.ParseTag(want.Ref(), want.SHA)
		if err != nil || got != want {
			t.Fatalf("%s came back as %+v, %v", want.Ref(), got, err)
		}
	})
}

func FuzzParseTag(f *testing.F) {
	f.Add("refs/tags/paasta-a-b.c-20160809T105558-deploy")
	f.Add("refs/tags/paasta-paasta--20160809T105558-stop")
	f.Fuzz(func(t *testing.T, ref string) {
		tag, err := paasta.ParseTag(ref, x)
		if err == nil && tag.Ref() != ref {
			t.Errorf("%q came back as %q", ref, tag.Ref())
		}
	})
}

// at returns a tag from "<seconds> <target> <kind> <sha>".
func at(second int, target string, kind paasta.TagKind, sha string) paasta.Tag {
	return paasta.Tag{Target: target, Time: time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC), Kind: kind, SHA: sha}
}

func TestState(t *testing.T) {
	t.Parallel()
	start := paasta.State{Desired: "start"}
	tests := map[string]struct {
		tags []paasta.Tag
		want paasta.State
	}{
		"nothing":                        {nil, start},
		"deployed":                       {[]paasta.Tag{at(1, "g", "deploy", x)}, start},
		"never deployed, but stopped":    {[]paasta.Tag{at(1, "c.i", "stop", x)}, start},
		"stopped":                        {[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "stop", x)}, paasta.State{Desired: "stop", ForceBounce: "20260101T000002"}},
		"stopped in the deploy's second": {[]paasta.Tag{at(1, "g", "deploy", x), at(1, "c.i", "stop", x)}, paasta.State{Desired: "stop", ForceBounce: "20260101T000001"}},
		"restarted": {
			[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "start", x), at(3, "c.i", "start", x)},
			paasta.State{Desired: "start", ForceBounce: "20260101T000003"},
		},
		"stopped and started": {
			[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "stop", x), at(3, "c.i", "start", x)},
			paasta.State{Desired: "start", ForceBounce: "20260101T000003"},
		},
		"both in one second": {
			[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "start", x), at(2, "c.i", "stop", x)},
			paasta.State{Desired: "stop", ForceBounce: "20260101T000002"},
		},
		"the same commit again keeps it stopped": {
			[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "stop", x), at(3, "g", "deploy", x)},
			paasta.State{Desired: "stop", ForceBounce: "20260101T000002"},
		},
		"the next commit starts it": {[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "stop", x), at(3, "g", "deploy", y)}, start},
		"a rollback does not bring the stop back": {
			[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "stop", x), at(3, "g", "deploy", y), at(4, "g", "deploy", x)}, start,
		},
		"a stop that raced with a deploy holds": {
			[]paasta.Tag{at(1, "g", "deploy", x), at(3, "g", "deploy", y), at(4, "c.i", "stop", x)},
			paasta.State{Desired: "stop", ForceBounce: "20260101T000004"},
		},
		"of another instance": {[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.ii", "stop", x), at(2, "cxi", "stop", x), at(2, "a-c.i", "stop", x)}, start},
		"of another group":    {[]paasta.Tag{at(1, "g", "deploy", x), at(2, "c.i", "stop", x), at(3, "g-h", "deploy", y)}, paasta.State{Desired: "stop", ForceBounce: "20260101T000002"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, paasta.NewTagLog(tt.tags).State("g", "c", "i")); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// After a deploy of another commit every instance is started, whatever the tags
// before it were: no old stop comes back.
func TestDeployStarts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		shas := []string{x, y, strings.Repeat("3", 40)}
		tags := []paasta.Tag{at(0, "g", paasta.TagDeploy, x)}
		next := func(target string, kind paasta.TagKind, sha string) {
			now := tags[0].Time.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "clock")) * time.Second)
			tags = append(tags, paasta.Tag{Target: target, Kind: kind, SHA: sha, Time: paasta.NewTagLog(tags).Next(now)})
		}
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			latest, _ := paasta.NewTagLog(tags).Latest("g")
			switch kind := rapid.SampledFrom([]paasta.TagKind{paasta.TagDeploy, paasta.TagStart, paasta.TagStop}).Draw(t, "kind"); kind {
			case paasta.TagDeploy:
				next("g", kind, rapid.SampledFrom(shas).Draw(t, "sha"))
			default:
				next("c.i", kind, latest.SHA)
				if got := paasta.NewTagLog(tags).State("g", "c", "i"); got.Desired != string(kind) || got.ForceBounce != tags[len(tags)-1].Stamp() {
					t.Fatalf("right after a %s: %+v", kind, got)
				}
			}
		}
		log := paasta.NewTagLog(tags)
		latest, _ := log.Latest("g")
		other := shas[0]
		if other == latest.SHA {
			other = shas[1]
		}
		next("g", paasta.TagDeploy, other)
		if got := paasta.NewTagLog(tags).State("g", "c", "i"); got != (paasta.State{Desired: "start"}) {
			t.Fatalf("after a deploy: %+v", got)
		}
	})
}

// Names that the original's regular expressions mixed up.
func TestGroupsStayApart(t *testing.T) {
	t.Parallel()
	groups := []string{"a", "a-b", "a.b", "axb", "a-20260101T000009-deploy", "a.b.c", "b"}
	var tags []paasta.Tag
	for n, group := range groups {
		tags = append(tags, at(n, group, "deploy", strings.Repeat(string(rune('a'+n%6)), 39)+string(rune('0'+n))))
	}
	l := paasta.NewTagLog(tags)
	for n, group := range groups {
		if got, ok := l.Latest(group); !ok || got != tags[n] || len(l.Deploys(group)) != 1 {
			t.Errorf("latest of %s: %+v, %v", group, got, ok)
		}
	}
	if _, ok := l.Latest("a.*"); ok {
		t.Error("a pattern is no name")
	}
}

func TestDeploysAreNewestFirst(t *testing.T) {
	t.Parallel()
	tags := []paasta.Tag{at(2, "g", "deploy", y), at(1, "g", "deploy", x), at(3, "g", "deploy", x)}
	want := []paasta.Tag{tags[2], tags[0], tags[1]}
	if diff := cmp.Diff(want, paasta.NewTagLog(tags).Deploys("g")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whoever asks later gets a later time, whatever the clocks say.
func TestNextIsLater(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tags []paasta.Tag
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			clock := time.Unix(rapid.Int64Range(1_700_000_000, 1_700_000_010).Draw(t, "clock"), 0)
			next := paasta.Tag{Target: "g", Kind: paasta.TagDeploy, SHA: x, Time: paasta.NewTagLog(tags).Next(clock)}
			for _, old := range tags {
				if !next.Time.After(old.Time) {
					t.Fatalf("%s is not after %s", next.Stamp(), old.Stamp())
				}
			}
			tags = append(tags, next)
		}
	})
}

package history

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gopaasta/paasta/paasta"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Date(2026, 1, 1, 0, 0, s, 0, time.UTC) }
	var records []paasta.DeployRecord
	for _, step := range []struct {
		seen             Sight
		changed, matters bool
		before           string // of what it is asked to run now
	}{
		{Sight{"one", false, "main waits"}, true, true, ""},
		{Sight{"one", false, "main waits"}, false, false, ""},
		{Sight{"one", true, ""}, true, true, ""},
		{Sight{"one", false, "a task died"}, false, false, ""}, // it ran
		{Sight{"two", false, "main waits"}, true, true, "one"},
		{Sight{"two", false, "main failed: 1 of 2 health checks pass"}, true, false, "one"},
		{Sight{"three", false, "main waits"}, true, true, "one"}, // two never ran
		{Sight{"three", true, ""}, true, true, "one"},
		{Sight{"one", true, ""}, true, true, "three"},
	} {
		after, changed, matters := Record(records, step.seen, at(len(records)))
		if changed != step.changed || matters != step.matters {
			t.Errorf("%+v: changed %t, matters %t", step.seen, changed, matters)
		}
		records = after
		if got := Before(records, step.seen.GitSHA); got != step.before {
			t.Errorf("%+v: deployed before: %q, want %q", step.seen, got, step.before)
		}
	}
	want := []paasta.DeployRecord{
		{GitSHA: "one", Since: at(0), Deployed: at(1), Ended: at(1)},
		{GitSHA: "two", Since: at(1), Ended: at(2), Why: "main failed: 1 of 2 health checks pass"},
		{GitSHA: "three", Since: at(2), Deployed: at(3), Ended: at(3)},
		{GitSHA: "one", Since: at(3), Deployed: at(3)},
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for range 3 * maxRecords {
		records, _, _ = Record(records, Sight{GitSHA: "x"}, at(9))
		records, _, _ = Record(records, Sight{GitSHA: "y"}, at(9))
	}
	if len(records) != maxRecords {
		t.Errorf("%d records", len(records))
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lost := []paasta.DeployRecord{{GitSHA: "two", Since: made}}
	records, ok := Restore(lost, "one", "two", made)
	if !ok || Before(records, "two") != "one" || records[1] != lost[0] {
		t.Errorf("%t %+v", ok, records)
	}
	if again, ok := Restore(records, "zero", "two", made); ok {
		t.Errorf("what is known is replaced: %+v", again)
	}
	if _, ok := Restore(nil, "", "two", made); ok {
		t.Error("an app that says nothing restores something")
	}
}

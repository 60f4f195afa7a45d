package history

import (
	"slices"
	"time"

	"github.com/gopaasta/paasta/paasta"
)

// maxRecords is how many records a group keeps.
const maxRecords = 50

// A Sight is what was seen of a group.
type Sight struct {
	GitSHA string // that the tags ask for
	Done   bool   // all its instances run that
	Why    string // why not
}

// Record adds what was seen to the records of a group, and tells what changed:
// whether something did, and whether that is more than a reason.
func Record(records []paasta.DeployRecord, seen Sight, now time.Time) (after []paasta.DeployRecord, changed, matters bool) {
	records = slices.Clone(records)
	last := len(records) - 1
	if last < 0 || records[last].GitSHA != seen.GitSHA {
		if last >= 0 && records[last].Ended.IsZero() {
			records[last].Ended = now
		}
		records = append(records, paasta.DeployRecord{GitSHA: seen.GitSHA, Since: now})
		records = records[max(0, len(records)-maxRecords):]
		last, changed, matters = len(records)-1, true, true
	}
	r := &records[last]
	switch {
	case !r.Deployed.IsZero(): // what comes later is no question of the deploy
	case seen.Done:
		r.Deployed, r.Why, changed, matters = now, "", true, true
	case seen.Why != r.Why:
		r.Why, changed = seen.Why, true
	}
	return records, changed, matters
}

// Before returns the latest commit that was fully deployed, other than sha; "" for
// none.
func Before(records []paasta.DeployRecord, sha string) string {
	for _, r := range slices.Backward(records) {
		if r.GitSHA != sha && !r.Deployed.IsZero() {
			return r.GitSHA
		}
	}
	return ""
}

// Restore adds a commit that an app of another one, made at a time, says was
// deployed before, if the records do not know of any.
func Restore(records []paasta.DeployRecord, before, after string, made time.Time) ([]paasta.DeployRecord, bool) {
	if before == "" || before == after || Before(records, after) != "" {
		return records, false
	}
	return append([]paasta.DeployRecord{{GitSHA: before, Deployed: made, Ended: made}}, records...), true
}

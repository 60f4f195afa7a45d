package paastatest

import "time"

// untilShortlyBefore leaves an inner process less time than its parent, so that
// the parent lives to report.
func untilShortlyBefore(deadline time.Time) time.Duration {
	return max(time.Until(deadline)-5*time.Second, time.Second)
}

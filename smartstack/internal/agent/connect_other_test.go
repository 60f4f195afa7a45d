//go:build !linux

package agent

import "net/http"

// atOnce connects; here nobody knows how many SYNs it took.
func atOnce(reuse bool) *http.Transport { return &http.Transport{DisableKeepAlives: !reuse} }

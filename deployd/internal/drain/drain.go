// Package drain tells tasks, in ways other than the registry's weight 0, to
// take no more traffic: through hacheck on their host, or over HTTP. All state
// lives outside the process, and all calls can be made again.
package drain

import (
	"context"
	"net/http"
	"time"
)

// A Target is one task to drain.
type Target struct {
	Host          string
	Port          int
	Service       string
	Instance      string
	Registrations []string
}

// A Drainer drains tasks. Start and Stop are idempotent.
type Drainer interface {
	Start(ctx context.Context, t Target) error
	Stop(ctx context.Context, t Target) error
	// State says whether a task was told to drain, and whether nothing is lost
	// by killing it now.
	State(ctx context.Context, t Target) (draining, safe bool, err error)
}

// timeout bounds one request of a drain method.
const timeout = 5 * time.Second

// client is shared, so that connections are kept.
var client = &http.Client{Timeout: timeout}

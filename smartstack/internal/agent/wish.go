package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// coalesce is how long a reload waits for more of the same.
const coalesce = 30 * time.Millisecond

// wishes are why a reload is wanted: for what HAProxy does not take at run time.
type wishes struct {
	reasons   []haproxy.Reason
	known     map[haproxy.Reason]bool
	since     time.Time // of the first of them
	notBefore time.Time // the next reload
}

// add wishes for a reload.
func (w *wishes) add(kind haproxy.ReasonKind, text string) {
	if len(w.reasons) == 0 {
		w.since, w.known = time.Now(), map[haproxy.Reason]bool{}
	}
	if r := (haproxy.Reason{Kind: kind, Text: text}); !w.known[r] {
		w.reasons, w.known[r] = append(w.reasons, r), true
	}
}

// clear says that HAProxy has all that was wished for.
func (w *wishes) clear() { w.reasons, w.known = nil, nil }

// due is when the reload is to be; zero when none is wanted.
func (w *wishes) due() time.Time {
	if len(w.reasons) == 0 {
		return time.Time{}
	}
	return latest(w.since.Add(coalesce), w.notBefore)
}

func (w *wishes) texts() []string {
	var texts []string
	for _, r := range w.reasons {
		texts = append(texts, r.Text)
	}
	return texts
}

// String is for the log: 1,000 new services are one reload.
func (w *wishes) String() string {
	const most = 5
	texts := w.texts()
	if n := len(texts) - most; n > 0 {
		return strings.Join(texts[:most], "; ") + fmt.Sprintf("; and %d more", n)
	}
	return strings.Join(texts, "; ")
}

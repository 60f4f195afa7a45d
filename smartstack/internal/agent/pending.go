package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// debounce is how long a reload waits for more of the same.
const debounce = 30 * time.Millisecond

// A pendingReload is why and when there is to be a reload: for what HAProxy does not
// take at run time.
type pendingReload struct {
	reasons   []haproxy.Reason
	known     map[haproxy.Reason]bool
	since     time.Time // of the first of them
	notBefore time.Time
	failures  int    // in a row
	err       string // of the last one; "": it did not fail
}

// add asks for a reload.
func (p *pendingReload) add(kind haproxy.ReasonKind, text string) {
	if len(p.reasons) == 0 {
		p.since, p.known = time.Now(), map[haproxy.Reason]bool{}
	}
	if r := (haproxy.Reason{Kind: kind, Text: text}); !p.known[r] {
		p.reasons, p.known[r] = append(p.reasons, r), true
	}
}

// clear says that HAProxy has all that was asked for.
func (p *pendingReload) clear() { p.reasons, p.known, p.failures, p.err = nil, nil, 0, "" }

// failed says that a reload did not work, and returns when the next one is due.
func (p *pendingReload) failed(err error) time.Time {
	p.failures++
	p.err = err.Error()
	p.wait(min(100*time.Millisecond<<min(p.failures, 10), time.Minute))
	return p.notBefore
}

// wait puts the next reload off.
func (p *pendingReload) wait(d time.Duration) {
	p.notBefore = latest(p.notBefore, time.Now().Add(d))
}

// due is when the reload is to be; zero when none is wanted.
func (p *pendingReload) due() time.Time {
	if len(p.reasons) == 0 {
		return time.Time{}
	}
	return latest(p.since.Add(debounce), p.notBefore)
}

func (p *pendingReload) texts() []string {
	var texts []string
	for _, r := range p.reasons {
		texts = append(texts, r.Text)
	}
	return texts
}

// String is for the log: 1,000 new services are one reload.
func (p *pendingReload) String() string {
	const most = 5
	texts := p.texts()
	if n := len(texts) - most; n > 0 {
		return strings.Join(texts[:most], "; ") + fmt.Sprintf("; and %d more", n)
	}
	return strings.Join(texts, "; ")
}

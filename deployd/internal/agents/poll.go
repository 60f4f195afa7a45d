package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// errAsking is why an answer is not known at first.
var errAsking = errors.New("has been asked and has not answered yet")

// unasked is how long a question is polled after it was asked last. A count of
// connections costs its host a walk through the kernel's tables, and nobody wants
// it once the task is killed; while it drains, it is asked every 5 s at least.
func (k kind) unasked() time.Duration {
	if k == connectionsPoll {
		return 8 * time.Second
	}
	return 30 * time.Second
}

// A kind says how a question is polled.
type kind int

const (
	backendsPoll    kind = iota // long poll, with ?after= and ?wait=
	connectionsPoll             // every 100 ms
)

// polls keeps asking agents what was asked lately. Each question has a
// goroutine of its own, so an agent that hangs delays nobody else.
type polls struct {
	http    *http.Client
	changed func()
	start   chan *question

	mu        sync.Mutex
	questions map[string]*question
}

type question struct {
	url   string
	kind  kind
	asked time.Time
	text  []byte // latest answer
	at    time.Time
	err   error
}

func newPolls(hc *http.Client, changed func()) *polls {
	return &polls{http: hc, changed: changed, start: make(chan *question, 1024), questions: map[string]*question{}}
}

// answer returns the latest answer to a GET, and has it polled.
func answer[T any](p *polls, url string, k kind) (T, error) {
	var out T
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.questions[url]
	if q == nil {
		q = &question{url: url, kind: k, err: errAsking}
		select {
		case p.start <- q:
			p.questions[url] = q
		default: // more questions than can be begun at once: the next round asks again
		}
	}
	q.asked = time.Now()
	if q.err != nil {
		return out, q.err
	}
	if err := json.Unmarshal(q.text, &out); err != nil {
		return out, fmt.Errorf("GET %s: %w", url, err)
	}
	return out, nil
}

func (p *polls) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-p.start:
			wg.Go(func() { p.poll(ctx, q) })
		}
	}
}

// poll asks until nobody wants to know any more or ctx ends.
func (p *polls) poll(ctx context.Context, q *question) {
	defer func() {
		p.mu.Lock()
		delete(p.questions, q.url)
		p.mu.Unlock()
	}()
	var generation int64
	pause := 100 * time.Millisecond
	for {
		began := time.Now()
		url, wait := q.url, time.Second
		if q.kind == backendsPoll {
			wait = 5 * time.Second
			url = fmt.Sprintf("%s?after=%d&wait=5s", q.url, generation)
		}
		text, err := p.get(ctx, url, wait+2*time.Second)
		if ctx.Err() != nil {
			return
		}
		if err == nil && q.kind == backendsPoll {
			var head struct {
				Generation int64 `json:"generation"`
			}
			if json.Unmarshal(text, &head) == nil {
				generation = head.Generation
			}
		}
		p.mu.Lock()
		changed := (err == nil) != (q.err == nil) || string(text) != string(q.text)
		q.text, q.err, q.at = text, err, time.Now()
		wanted := time.Since(q.asked) < q.kind.unasked()
		p.mu.Unlock()
		if changed {
			p.changed()
		}
		if !wanted {
			return
		}
		switch {
		case err != nil:
			pause = min(2*pause, 2*time.Second)
			generation = 0 // the agent may be a new process
		case q.kind == backendsPoll && (changed || time.Since(began) > time.Second):
			pause = 0
		default:
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (p *polls) get(ctx context.Context, url string, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := p.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.200s", url, response.Status, strings.TrimSpace(string(text)))
	}
	return text, nil
}

package plug

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDriver writes down what the guard does.
type fakeDriver struct {
	did   []string
	fails string
	gone  bool // somebody else released
}

func (m *fakeDriver) do(what string) error {
	if n := len(m.did); n == 0 || m.did[n-1] != what {
		m.did = append(m.did, what)
	}
	if m.fails == what {
		return errors.New(what + " does not work")
	}
	return nil
}

func (m *fakeDriver) setup() error             { return m.do("setup") }
func (m *fakeDriver) check() error             { return m.do("check") }
func (m *fakeDriver) clear() error             { return m.do("clear") }
func (m *fakeDriver) hold(time.Duration) error { return m.do("hold") }
func (m *fakeDriver) release() (int, error)    { return 3, m.do("release") }
func (m *fakeDriver) finish() error            { return m.do("finish") }
func (m *fakeDriver) close() error             { return m.do("close") }
func (m *fakeDriver) status() (Status, error)  { return Status{}, m.do("status") }

func (m *fakeDriver) renew(time.Duration) error {
	if m.gone {
		return errReleasedByOther
	}
	return m.do("renew")
}

// A parent writes these lines, waits that long after each, and the guard
// reports those events. Time is the bubble's.
func TestGuard(t *testing.T) {
	t.Parallel()
	const (
		hold    = `{"do":"hold","wait":1000000000}`
		beat    = `{"do":"beat"}`
		release = `{"do":"release"}`
	)
	beats := func(n int) []string { return strings.Fields(strings.Repeat(beat+" ", n)) }
	for name, tt := range map[string]struct {
		driver fakeDriver
		locked bool
		turn   time.Duration // how long another run has it first
		lines  []string
		events string
		did    string
	}{
		"asked to": {
			lines: []string{hold, beat, release}, events: "held, released asked", did: "hold renew release finish",
		},
		"twice": {
			lines: []string{hold, beat, release, hold, release}, events: "held, released asked, held, released asked",
			did: "hold renew release finish hold renew release finish",
		},
		"released without a hold": {
			lines: []string{release}, events: "released asked",
		},
		"held twice": {
			lines: []string{hold, hold, release}, events: "held, error already holding, released asked", did: "hold renew release finish",
		},
		"the parent goes on for too long": {
			lines: append([]string{hold}, beats(30)...), events: "held, released bound", did: "hold renew release finish",
		},
		"the parent falls silent": {
			lines: append(append([]string{hold}, beats(3)...), "-", "-", "-", "-", "-", "-", "-"), events: "held, released silent", did: "hold renew release finish",
		},
		"the parent dies": {
			lines: []string{hold, beat}, events: "held, released gone", did: "hold renew release finish",
		},
		"somebody else releases": {
			driver: fakeDriver{gone: true}, lines: []string{hold, beat, beat}, events: "held, released other", did: "hold release finish",
		},
		"it cannot hold": {
			driver: fakeDriver{fails: "hold"}, lines: []string{hold, beat}, events: "error hold does not work", did: "hold",
		},
		"it cannot release": {
			driver: fakeDriver{fails: "release"}, lines: []string{hold, release}, events: "held, error release does not work", did: "hold renew release finish",
		},
		"another run has it": {
			locked: true, lines: []string{hold, beat, beat, beat, beat, beat, beat, beat, beat, beat, beat, beat, beat}, events: "error another run has the plug",
		},
		"another run has it for longer than a parent may be silent": {
			turn: 800 * time.Millisecond, lines: []string{hold, "-", "-", "-", "-", "-", "-", "-", beat, beat, release},
			events: "held, released asked", did: "hold renew release finish",
		},
		"the parent writes nonsense": {
			lines: []string{hold, "}"}, events: "held, released gone", did: "hold renew release finish",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := tt.driver
				in, parent := io.Pipe()
				answers, out := io.Pipe()
				g := &guard{m: &m, bound: 2 * time.Second, out: json.NewEncoder(out), lock: func(ctx context.Context, _ string) (func() error, error) {
					if tt.locked {
						<-ctx.Done()
						return nil, ErrLocked
					}
					time.Sleep(tt.turn)
					return func() error { return nil }, nil
				}}
				go func() {
					if err := g.run(t.Context(), in); err != nil {
						t.Errorf("run: %v", err)
					}
					out.Close()
				}()
				var writer sync.WaitGroup
				writer.Go(func() {
					for _, line := range tt.lines {
						if line != "-" {
							io.WriteString(parent, line+"\n")
						}
						time.Sleep(renewEvery + time.Millisecond)
					}
					parent.Close()
				})
				var events []string
				for lines := bufio.NewScanner(answers); lines.Scan(); {
					var r report
					if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
						t.Fatal(err)
					}
					events = append(events, strings.TrimSpace(r.Event+" "+r.Why))
					if r.Event == "released" && r.Held > 2*time.Second+renewEvery {
						t.Errorf("held for %s", r.Held)
					}
				}
				in.Close()
				writer.Wait()
				if got := strings.Join(events, ", "); got != tt.events {
					t.Errorf("events: %s\nwant:   %s", got, tt.events)
				}
				if got := strings.Join(m.did, " "); got != tt.did {
					t.Errorf("did:  %s\nwant: %s", got, tt.did)
				}
			})
		})
	}
}

// A guard without work ends.
func TestGuardEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in, parent := io.Pipe()
		defer parent.Close()
		g := &guard{m: &fakeDriver{}, bound: time.Second, out: json.NewEncoder(io.Discard)}
		start := time.Now()
		if err := g.run(t.Context(), in); err != nil || time.Since(start) != guardIdle {
			t.Errorf("ended after %s with %v, want %s", time.Since(start), err, guardIdle)
		}
	})
}

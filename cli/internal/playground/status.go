//go:build linux

package playground

import (
	"context"
	"sync"
	"time"
)

// A Status is how a playground is.
type Status struct {
	Dir       string         `json:"dir"`
	Namespace string         `json:"namespace"`
	Address   string         `json:"address"`
	Agents    int            `json:"agents"`
	Ready     bool           `json:"ready"` // all daemons are
	Daemons   []DaemonStatus `json:"daemons"`
	Forwards  []Forward      `json:"forwards"`
}

// A DaemonStatus is how one of its processes is.
type DaemonStatus struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid,omitempty"` // 0: does not run
	Started time.Time `json:"started,omitzero"`
	Ready   bool      `json:"ready"`
	Why     string    `json:"why,omitempty"` // it is not ready
	Log     string    `json:"log"`
}

// Status asks every daemon.
func (p *Playground) Status(ctx context.Context) Status {
	s := Status{Dir: p.Dir, Namespace: p.Name, Address: p.Address, Agents: p.Agents, Ready: true, Forwards: []Forward{}}
	if open, err := p.Forwards(); err == nil {
		s.Forwards = open
	}
	daemons := append([]daemon{{name: "supervisor", ready: func(context.Context, *Namespace) error { return nil }}}, p.daemons()...)
	s.Daemons = make([]DaemonStatus, len(daemons))
	n, err := p.Enter()
	if err == nil {
		defer n.Close()
	}
	var wg sync.WaitGroup
	for i, d := range daemons {
		wg.Go(func() {
			state := DaemonStatus{Name: d.name, Log: p.logFile(d.name)}
			proc := p.readPID(d.name)
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			switch {
			case err != nil:
				state.Why = err.Error()
			case !proc.alive():
				state.Why = "does not run"
			default:
				state.PID, state.Started = proc.PID, proc.Started
				if err := d.ready(ctx, n); err != nil {
					state.Why = err.Error()
				}
			}
			state.Ready = state.Why == ""
			s.Daemons[i] = state
		})
	}
	wg.Wait()
	for _, d := range s.Daemons {
		s.Ready = s.Ready && d.Ready
	}
	return s
}

// Logs returns the log files of the daemons, by name.
func (p *Playground) Logs() map[string]string {
	logs := map[string]string{"supervisor": p.logFile("supervisor")}
	for _, d := range p.daemons() {
		logs[d.name] = p.logFile(d.name)
	}
	return logs
}

package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gopaasta/paasta/smartstack/internal/haproxy"
)

// A scan is the state of all servers of HAProxy at one time. With thousands of
// servers it is megabytes of text, so there is none unless somebody asks for it.
type scan struct {
	until   time.Time                  // it is good for
	servers map[string][]scannedServer // by backend
	queues  map[string]int             // requests that wait, by backend
}

// A scannedServer is what is kept of a row.
type scannedServer struct {
	name, status string
	weight       int
}

func (s scannedServer) up() bool { return haproxy.Row{Status: s.status, Weight: s.weight}.Up() }

// recent is how long a scan is good for, at least; one that took long is good for
// longer, so that scans take a small share of HAProxy's time, however many ask.
const recent = 5 * time.Second

// scanTimeout bounds how long those who ask wait for a HAProxy that does not answer.
const scanTimeout = 2 * time.Second

// scanned returns a recent scan; the last one while HAProxy does not answer.
func (v *view) scanned(ctx context.Context) (*scan, error) {
	v.scanning.Lock() // one for all who ask meanwhile
	defer v.scanning.Unlock()
	v.mu.Lock()
	pid, last := v.pid, v.scan
	v.mu.Unlock()
	begin := time.Now()
	if last != nil && begin.Before(last.until) {
		return last, nil
	}
	if pid == 0 {
		return nil, errNotRunning
	}
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	s := &scan{servers: map[string][]scannedServer{}, queues: map[string]int{}}
	err := v.runtime.EachRow(ctx, pid, func(row haproxy.Row) {
		s.queues[row.Proxy] += row.Queue
		switch row.Server {
		case "FRONTEND", "BACKEND":
		default:
			s.servers[row.Proxy] = append(s.servers[row.Proxy], scannedServer{row.Server, row.Status, row.Weight})
		}
	})
	switch {
	case err == nil:
		s.until = begin.Add(max(recent, min(250*time.Since(begin), time.Minute)))
	case last != nil:
		s = &scan{time.Now().Add(recent), last.servers, last.queues}
	default:
		s = &scan{until: time.Now().Add(recent)} // so that the next who ask need not wait as well
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pid == pid {
		v.scan = s
	}
	return s, nil
}

var errNotRunning = errors.New("HAProxy does not run")

// WatchHeld looks every few seconds, until ctx ends, whether HAProxy's checks call
// members down that only they can call down.
func (v *view) WatchHeld(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		v.mu.Lock()
		held := map[string]seen{}
		for name := range v.held {
			held[name] = v.seen[name]
		}
		ids, pid := v.ids, v.pid
		v.mu.Unlock()
		for name, s := range held {
			down := map[string]bool{}
			for server, row := range v.rowsOf(ctx, s, ids, pid) {
				if row.Status == "DOWN" {
					down[server] = true
				}
			}
			if len(down) > 0 {
				v.events.put(serversDown{name, down})
			}
		}
	}
}

// rowsOf asks HAProxy for the servers of one registration only, by name; those of
// the nearest backend where there are several.
func (v *view) rowsOf(ctx context.Context, s seen, ids map[string]int, pid int) map[string]haproxy.Row {
	if pid == 0 || len(s.backends) == 0 {
		return nil
	}
	var proxies []int
	for _, b := range s.backends {
		if ids == nil {
			ids = v.learn(ctx, pid)
		}
		if ids[b] == 0 {
			return nil // this process does not have it: only another one will
		}
		proxies = append(proxies, ids[b])
	}
	slices.Reverse(proxies)
	byName := map[string]haproxy.Row{}
	err := v.runtime.EachRow(ctx, pid, func(row haproxy.Row) {
		if row.Server != "BACKEND" && row.Server != "FRONTEND" {
			byName[row.Server] = row
		}
	}, proxies...)
	if err != nil {
		return nil
	}
	return byName
}

// learn returns HAProxy's numbers of backends.
func (v *view) learn(ctx context.Context, pid int) map[string]int {
	ids, err := v.runtime.BackendIDs(ctx, pid)
	if err != nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pid == pid {
		v.ids = ids
	}
	return ids
}

// states counts backends by how they are.
func states(s seen, servers map[string][]scannedServer) map[string]int {
	n := map[string]int{"up": 0, "down": 0, "drain": 0, "maint": 0, "probing": 0, "elsewhere": len(s.away)}
	byName := map[string]scannedServer{}
	for _, b := range slices.Backward(s.backends) {
		for _, server := range servers[b] {
			byName[server.name] = server
		}
	}
	for _, m := range s.members {
		server, ok := byName[m.Entry.Name]
		switch {
		case !m.Verified() || !ok:
			n["probing"]++
		case server.up():
			n["up"]++
		case strings.HasPrefix(server.status, "DRAIN") || server.weight == 0:
			n["drain"]++
		case strings.HasPrefix(server.status, "MAINT"):
			n["maint"]++
		default:
			n["down"]++
		}
	}
	return n
}

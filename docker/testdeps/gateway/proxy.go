package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// accept serves one proxy port until the listener is closed.
func (g *gateway) accept(ctx context.Context, l net.Listener, port int) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for pause := time.Millisecond; ; {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil { // out of file descriptors, as a rule
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		serving.Go(func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			g.serve(ctx, conn.(*net.TCPConn), port)
		})
	}
}

// serve passes a connection on to the caller's own dependency.
func (g *gateway) serve(ctx context.Context, conn *net.TCPConn, port int) {
	client := g.client(conn.RemoteAddr())
	route, ok := client.Routes[port]
	if !ok {
		g.turnAway(conn, port, g.refuse(client, port))
		return
	}
	first := g.next(route)
	var err error
	for n := range route.Targets {
		var to net.Conn
		d := net.Dialer{Timeout: 3 * time.Second}
		if to, err = d.DialContext(ctx, "tcp4", route.Targets[(first+n)%len(route.Targets)]); err == nil {
			defer to.Close()
			stop := context.AfterFunc(ctx, func() { to.Close() })
			defer stop()
			join(conn, to.(*net.TCPConn))
			return
		}
	}
	text := fmt.Sprintf("%s, which %s called at %s:%d, does not answer: %v", route.Dependency, client.Name, Production, port, err)
	fmt.Fprintln(g.out, text)
	g.turnAway(conn, port, text)
}

// next takes turns among the targets of a route.
func (g *gateway) next(r Route) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.turn == nil {
		g.turn = map[string]int{}
	}
	g.turn[r.Dependency]++
	return g.turn[r.Dependency]
}

// turnAway tells an HTTP client why, and resets other connections.
func (g *gateway) turnAway(conn *net.TCPConn, port int, text string) {
	if !g.c.Ports[port].HTTP {
		_ = conn.SetLinger(0) // a reset is the clearest "no" that TCP has left
		return
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	// Closing with something unread would reset the connection, and take the
	// answer along.
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	resp := &http.Response{
		StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Request: req, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "X-Paasta-Test-Deps": {"refused"}},
		Body:          io.NopCloser(strings.NewReader("paasta test-deps: " + text + "\n")),
		ContentLength: int64(len("paasta test-deps: " + text + "\n")),
	}
	if resp.Write(conn) == nil && conn.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
	}
}

// join copies both ways until both ends are done.
func join(a, b *net.TCPConn) {
	var ways sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		ways.Go(func() {
			if _, err := io.Copy(way[1], way[0]); err != nil {
				way[0].Close()
				way[1].Close()
				return
			}
			_ = way[1].CloseWrite() // it may be closed already
		})
	}
	ways.Wait()
}

package zk

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What was sent into a partition stays lost; what is sent after it arrives.
func TestDialInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := time.Now().Add(1100 * time.Millisecond)
		there, other := net.Pipe()
		defer other.Close()
		var dials atomic.Int32
		dial := func(ctx context.Context) (net.Conn, error) {
			dials.Add(1)
			if time.Now().Before(over) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return there, nil
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := insistent(ctx, nil, dial)
		if err != nil || conn != there {
			t.Fatal(conn, err)
		}
		if late := time.Since(over); late > insist {
			t.Errorf("connected %s after the partition", late)
		}
		if took := time.Since(begin); int(dials.Load()) > int(took/insist)+1 {
			t.Errorf("%d dials in %s", dials.Load(), took)
		}
		conn.Close()
	})
}

func TestDialTakesNoForAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		begin := time.Now()
		_, err := insistent(t.Context(), nil, func(context.Context) (net.Conn, error) { return nil, refused })
		if !errors.Is(err, refused) || time.Since(begin) > 0 {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		silent := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := insistent(ctx, nil, silent); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		stop := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(stop) })
		if _, err := insistent(t.Context(), stop, silent); !errors.Is(err, net.ErrClosed) || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// However long ZooKeeper is away, the pause between two dials stays short; a
// session that it calls expired costs no pause, but not over and over.
func TestPauses(t *testing.T) {
	var l linkState
	if d := l.pause(); d != 0 {
		t.Errorf("the first dial waits %s", d)
	}
	for range 1000 {
		if d := l.pause(); d <= 0 || d > longestPause {
			t.Errorf("a dial waits %s", d)
		}
	}
	l.expired()
	if d := l.pause(); d == 0 {
		t.Error("expired without ever having been a session, and the next dial does not wait")
	}
	l.connected()
	l.expired()
	if d := l.pause(); d != 0 {
		t.Errorf("the session has expired, and the dial for the next waits %s", d)
	}
	l.expired()
	if d := l.pause(); d == 0 {
		t.Error("expired at once again, and the next dial does not wait")
	}
}

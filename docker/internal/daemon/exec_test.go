package daemon

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What engines do that cannot be asked; programs in real containers are the
// tests of those who run them.
func TestEngineCannotBeAsked(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"frozen":   func(net.Conn) {},
		"hangs up": func(c net.Conn) { c.Close() },
		"is gone":  nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "docker.sock")
			if serve != nil {
				l, err := net.Listen("unix", socket)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						serve(c)
					}
				}()
			}
			docker, err := New("unix://" + socket)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { docker.Close() })
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, _, err := docker.Exec(ctx, "id", "true"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrExecTimeout) {
				t.Errorf("%v, want ErrUnavailable", err)
			}
		})
	}
}

func TestBeginning(t *testing.T) {
	t.Parallel()
	var b beginning
	for range 3 {
		if n, err := b.Write([]byte(strings.Repeat("x", keep-1))); n != keep-1 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if b.Len() != keep {
		t.Errorf("kept %d bytes, want %d", b.Len(), keep)
	}
}

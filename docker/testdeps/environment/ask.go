package environment

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/gopaasta/paasta/docker/internal/daemon"
	"github.com/gopaasta/paasta/docker/testdeps/gateway"
)

// An asker asks a gateway, over its standard input and output.
type asker struct {
	conn types.HijackedResponse

	mu      sync.Mutex
	waiting map[int64]chan gateway.Answer
	broken  chan struct{} // closed when nothing is answered any more
}

var errNoAnswer = errors.New("the environment's gateway has gone")

// attach opens a conversation with a gateway; close it.
func (e *Engine) attach(ctx context.Context, id string) (*asker, error) {
	opening, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	conn, err := daemon.Hijack(opening, func(ctx context.Context) (types.HijackedResponse, error) {
		return e.docker.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true})
	})
	if err != nil {
		return nil, err
	}
	a := &asker{conn: conn, waiting: map[int64]chan gateway.Answer{}, broken: make(chan struct{})}
	lines, w := io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(w, io.Discard, conn.Reader)
		w.CloseWithError(err)
	}()
	go a.read(lines)
	return a, nil
}

func (a *asker) close() { a.conn.Close() }

// read hands answers to who waits for them. Others may ask at the same time, and
// their answers come here, too.
func (a *asker) read(lines *io.PipeReader) {
	defer close(a.broken)
	defer lines.Close()
	in := bufio.NewScanner(lines)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var answer gateway.Answer
		if json.Unmarshal(in.Bytes(), &answer) != nil {
			continue
		}
		a.mu.Lock()
		if to := a.waiting[answer.ID]; to != nil {
			to <- answer
			delete(a.waiting, answer.ID)
		}
		a.mu.Unlock()
	}
}

// ask asks and waits for the answer.
func (a *asker) ask(ctx context.Context, q gateway.Question) (gateway.Answer, error) {
	q.ID = rand.Int64()
	text, err := json.Marshal(q)
	if err != nil {
		return gateway.Answer{}, err
	}
	answer := make(chan gateway.Answer, 1)
	a.mu.Lock()
	a.waiting[q.ID] = answer
	_, err = a.conn.Conn.Write(append(text, '\n'))
	a.mu.Unlock()
	if err != nil {
		return gateway.Answer{}, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	select {
	case got := <-answer:
		return got, nil
	case <-a.broken:
		return gateway.Answer{}, errNoAnswer
	case <-ctx.Done():
		a.mu.Lock()
		delete(a.waiting, q.ID)
		a.mu.Unlock()
		return gateway.Answer{}, ctx.Err()
	}
}

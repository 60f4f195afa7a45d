package environment

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/command"
)

// claims is how often two that want one name give way to each other.
const claims = 5

// claim makes the environment's network, which is what takes its name. One that
// somebody chose may be another's, and two commands may want it in the same
// moment: whoever then sees another's gives way and tries again, so at most one
// goes on. The networks themselves have different names: while there are two of
// one name, the engine starts no container in either.
func (u *up) claim(ctx context.Context, labels map[string]string) (id string, l layout, err error) {
	if u.o.Name == "" { // a random one
		return u.e.makeNetwork(ctx, u.x.Name, labels)
	}
	for attempt := 1; ; attempt++ {
		if err := u.free(ctx); err != nil {
			return "", l, err
		}
		if id, l, err = u.e.makeNetwork(ctx, u.x.Name+"-"+strings.ToLower(u.x.id[:6]), labels); err != nil {
			return "", l, err
		}
		rivals, err := u.rivals(ctx)
		if err != nil || len(rivals) == 0 {
			return id, l, err
		}
		if err := u.x.Down(ctx); err != nil {
			return "", l, err
		}
		if attempt == claims {
			return "", l, taker(u.x.Name)
		}
		pause(ctx, time.Duration(rand.Int64N(int64(attempt)*int64(200*time.Millisecond))))
		if ctx.Err() != nil {
			return "", l, context.Cause(ctx)
		}
	}
}

// rivals are the other environments of the wanted name.
func (u *up) rivals(ctx context.Context) ([]*Environment, error) {
	all, err := u.e.List(ctx, Selection{Name: u.x.Name})
	var others []*Environment
	for _, x := range all {
		if x.id != u.x.id {
			others = append(others, x)
		}
	}
	return others, err
}

// free sees that the wanted name is nobody's, or nobody's any more.
func (u *up) free(ctx context.Context) error {
	rivals, err := u.rivals(ctx)
	if err != nil {
		return err
	}
	for _, x := range rivals {
		why := x.stale(time.Now())
		if why == "" {
			return taker(x.Name)
		}
		if err := x.Down(ctx); err != nil {
			return err
		}
		u.mu.Lock()
		u.x.Notes = append(u.x.Notes, removed(x, why))
		u.mu.Unlock()
	}
	return nil
}

// taker says that a name is taken.
func taker(name string) error {
	return command.WithHint(fmt.Errorf("there is an environment called %s, or another command is just making it", name),
		fmt.Sprintf("another --name, or none; paasta test-deps down --name %s removes that one", name))
}

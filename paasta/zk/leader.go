package zk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Leader runs for leadership below Dir.
type Leader struct {
	Conn *Conn
	Dir  string // e.g. /paasta/<cluster>/leader
	Data []byte // stored in the candidate's node; readers find the leader's address there
	Log  *slog.Logger
	// Gone tells from its data that a candidate's process is gone for certain, so
	// that nobody waits until its session expires. Nil knows of none.
	Gone func(data []byte) bool
}

// errLost is why the context of work ends when leadership does.
var errLost = errors.New("leadership was lost")

// Lead waits until this process leads and then calls work, whose context ends
// when leadership is lost (the session expired, or could not be confirmed
// within two thirds of its timeout, so before anybody else can lead). When work
// returns it runs for leadership again, with back-off, until ctx ends; then it
// returns nil. Work must return soon once its context has ended.
func (l *Leader) Lead(ctx context.Context, work func(ctx context.Context, fence Fence) error) error {
	log := l.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("dir", l.Dir)
	guid := newGUID() // by it we recognize nodes whose creation we never heard back of
	pause := firstPause
	for ctx.Err() == nil {
		start := time.Now()
		err := l.term(ctx, log, guid, work)
		if ctx.Err() != nil {
			break
		}
		if time.Since(start) > time.Minute {
			pause = firstPause
		}
		log.Warn("leadership lost, running for it again", "err", err, "retry_in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, 10*time.Second)
	}
	return nil
}

const firstPause = 100 * time.Millisecond

// term is one candidacy and, when it is won, one leadership.
func (l *Leader) term(ctx context.Context, log *slog.Logger, guid string, work func(context.Context, Fence) error) error {
	own, err := l.Conn.createProtected(ctx, guid, path.Join(l.Dir, "candidate-"), l.Data)
	if err != nil {
		l.withdraw(ctx, guid)
		return err
	}
	defer l.withdraw(ctx, guid)
	if err := l.waitForTurn(ctx, log, guid, own); err != nil {
		return err
	}
	start := time.Now()
	_, stat, err := l.Conn.Get(ctx, own)
	if err != nil {
		return err
	}
	log.Info("leadership won", "node", own)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var confirming sync.WaitGroup
	confirming.Go(func() { cancel(l.confirm(ctx, own, stat.EphemeralOwner, start)) })
	err = work(ctx, Fence{own, stat.Version})
	lost := context.Cause(ctx)
	cancel(nil)
	confirming.Wait()
	switch {
	case lost != nil && !errors.Is(lost, context.Canceled):
		return lost
	case err == nil:
		return errors.New("work ended by itself")
	}
	return err
}

// lookEvery is how often a candidate looks whether the process ahead of it is
// gone, which nothing else tells before that one's session expires.
const lookEvery = 500 * time.Millisecond

// waitForTurn returns nil once own is the first of the candidates.
func (l *Leader) waitForTurn(ctx context.Context, log *slog.Logger, guid, own string) error {
	wake := make(chan struct{}, 1)
	pause := firstPause
	for {
		resync := l.Conn.SessionTimeout()
		if l.Gone != nil {
			resync = min(resync, lookEvery)
		}
		names, _, err := l.Conn.WatchChildren(ctx, l.Dir, wake)
		if err == nil {
			switch names = candidates(names); {
			case !slices.Contains(names, path.Base(own)):
				return fmt.Errorf("candidate %s: %w", own, ErrNoNode)
			case names[0] == path.Base(own):
				return nil
			}
			err = l.removeDead(ctx, log, guid, names[0])
		}
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, ErrNoNode) || errors.Is(err, ErrClosed) {
				return err
			}
			resync, pause = pause, min(2*pause, 5*time.Second)
		} else {
			pause = firstPause
		}
		timer := time.NewTimer(resync)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// removeDead removes the candidate ahead of us if nobody stands behind it: it is
// an earlier try of ours whose answer was lost, or its process is gone. Its name
// is never given again, so nobody else's is removed.
func (l *Leader) removeDead(ctx context.Context, log *slog.Logger, guid, name string) error {
	node := path.Join(l.Dir, name)
	if ours := strings.HasPrefix(name, "_c_"+guid+"-"); !ours {
		if l.Gone == nil {
			return nil
		}
		data, _, err := l.Conn.Get(ctx, node)
		if errors.Is(err, ErrNoNode) {
			return nil
		}
		if err != nil || !l.Gone(data) {
			return err
		}
		log.Info("removing the candidate of a process that is gone", "node", node, "data", string(data))
	}
	if err := l.Conn.Delete(ctx, node, -1); !errors.Is(err, ErrNoNode) {
		return err
	}
	return nil
}

// confirm returns why leadership ended. The server resetting a session no sooner
// than a timeout after it last heard from it, so whoever stops two thirds after
// the last question that was answered stops in time.
func (l *Leader) confirm(ctx context.Context, own string, session int64, last time.Time) error {
	timeout := l.Conn.SessionTimeout()
	wake := make(chan struct{}, 1)
	l.Conn.Sessions(ctx, wake)
	for {
		asked := time.Now()
		left := time.Until(last.Add(timeout * 2 / 3))
		ask, cancel := context.WithTimeout(ctx, left)
		_, stat, err := l.Conn.Get(ask, own)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrNoNode), errors.Is(err, ErrClosed):
			return fmt.Errorf("%w: %w", errLost, err)
		case err == nil && stat.EphemeralOwner != session:
			return fmt.Errorf("%w: %s is of another session", errLost, own)
		case err == nil:
			last = asked
		case time.Since(last) >= timeout*2/3:
			return fmt.Errorf("%w: not confirmed for %v: %w", errLost, time.Since(last).Round(time.Millisecond), err)
		}
		timer := time.NewTimer(timeout / 6)
		select {
		case <-ctx.Done():
		case <-l.Conn.life.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// withdraw removes our candidates, whatever has become of ctx; if ZooKeeper does
// not answer they go with the session.
func (l *Leader) withdraw(ctx context.Context, guid string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	names, _, err := l.Conn.Children(ctx, l.Dir)
	if err != nil {
		return
	}
	for _, name := range names {
		if strings.HasPrefix(name, "_c_"+guid+"-") {
			// Not deleted now, it is deleted by the next try or with the session.
			_ = l.Conn.Delete(ctx, path.Join(l.Dir, name), -1)
		}
	}
}

// candidates returns those of names that are candidates, the leader first.
func candidates(names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return sequence(name) == "" })
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(sequence(a), sequence(b)) })
	return names
}

// sequence returns the ten digits at the end of name, "" when there are none.
func sequence(name string) string {
	if len(name) < 10 {
		return ""
	}
	digits := name[len(name)-10:]
	if strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	return digits
}

// CurrentLeader returns the data of the leader below dir; ErrNoNode when there
// is none.
func CurrentLeader(ctx context.Context, c *Conn, dir string) ([]byte, error) {
	names, _, err := c.Children(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, name := range candidates(names) {
		data, _, err := c.Get(ctx, path.Join(dir, name))
		if errors.Is(err, ErrNoNode) {
			continue // it went between the two reads: the next one leads
		}
		return data, err
	}
	return nil, fmt.Errorf("leader below %s: %w", dir, ErrNoNode)
}

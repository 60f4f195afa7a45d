// Package registrytest has a registry in memory, and the contract that it and
// the one in ZooKeeper are held to.
package registrytest

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/registry"
)

// Fake is a registry in memory. Its zero value is empty and ready to use.
type Fake struct {
	mu    sync.Mutex
	zxid  int64
	dirs  map[string]*dir
	wakes map[string]map[*func()]bool
	err   error
}

type dir struct {
	version int64
	nodes   map[string]registry.Node
	bad     map[string]error
}

var _ registry.Registry = (*Fake)(nil)

// Fail makes every call but Watch fail with err until Fail(nil), which wakes
// all watchers as a reconnect does.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	if err == nil {
		for registration := range f.wakes {
			f.wake(registration)
		}
	}
}

// SetBad makes the child name of a registration one that is no entry; with a
// nil err the child goes.
func (f *Fake) SetBad(registration, name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.dir(registration)
	p := path.Join(registry.Root, registration, name)
	if err == nil {
		delete(d.bad, p)
	} else {
		d.bad[p] = err
	}
	f.wake(registration)
}

// dir returns the registration, changed by the caller now. f.mu is held.
func (f *Fake) dir(registration string) *dir {
	if f.dirs == nil {
		f.dirs = map[string]*dir{}
	}
	d := f.dirs[registration]
	if d == nil {
		d = &dir{nodes: map[string]registry.Node{}, bad: map[string]error{}}
		f.dirs[registration] = d
	}
	f.zxid++
	d.version = f.zxid
	return d
}

func (f *Fake) wake(registration string) {
	for wake := range f.wakes[registration] {
		(*wake)()
	}
}

// List returns what Apply left.
func (f *Fake) List(ctx context.Context, registration string) (registry.Set, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(ctx, registration); err != nil {
		return registry.Set{}, err
	}
	d := f.dirs[registration]
	if d == nil {
		return registry.Set{}, nil
	}
	set := registry.Set{Version: d.version, Bad: map[string]error{}}
	for _, n := range d.nodes {
		set.Nodes = append(set.Nodes, n)
	}
	maps.Copy(set.Bad, d.bad)
	registry.Sort(set.Nodes)
	return set, nil
}

func (f *Fake) check(ctx context.Context, registration string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.err != nil {
		return f.err
	}
	_, err := paasta.ParseRegistration(registration)
	return err
}

// Registrations lists those that had an entry once.
func (f *Fake) Registrations(ctx context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(ctx, "any.one"); err != nil {
		return nil, err
	}
	var names []string
	for name := range f.dirs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Apply changes the registration and wakes its watchers.
func (f *Fake) Apply(ctx context.Context, registration string, add []registry.Entry, remove []registry.Node) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(ctx, registration); err != nil {
		return err
	}
	root := path.Join(registry.Root, registration)
	for _, e := range add {
		if err := registry.Check(e); err != nil {
			return fmt.Errorf("register in %s: %w", registration, err)
		}
	}
	for _, n := range remove {
		if path.Dir(n.Path) != root {
			return fmt.Errorf("remove %s: not below %s", n.Path, root)
		}
	}
	if len(add) == 0 && len(remove) == 0 {
		return nil
	}
	d := f.dir(registration)
	var names []string
	for p := range d.nodes {
		names = append(names, path.Base(p))
	}
	create, gone := registry.Plan(root, names, add, remove)
	for _, n := range create {
		f.zxid++
		n.Czxid = f.zxid
		d.nodes[n.Path] = n
	}
	for _, p := range gone {
		delete(d.nodes, p)
		delete(d.bad, p)
	}
	f.wake(registration)
	return nil
}

// Watch calls wake at once and at every Apply, until ctx ends.
func (f *Fake) Watch(ctx context.Context, registration string, wake func()) error {
	if _, err := paasta.ParseRegistration(registration); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wakes == nil {
		f.wakes = map[string]map[*func()]bool{}
	}
	if f.wakes[registration] == nil {
		f.wakes[registration] = map[*func()]bool{}
	}
	f.wakes[registration][&wake] = true
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.wakes[registration], &wake)
	})
	wake()
	return nil
}

// Send returns a function to watch with that sends on wake, without blocking.
func Send(wake chan<- struct{}) func() {
	return func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

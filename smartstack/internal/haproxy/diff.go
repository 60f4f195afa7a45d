package haproxy

import (
	"fmt"
	"slices"
	"strings"
)

// An Op is what a Command does to a server.
type Op int

// The ops.
const (
	Add    Op = iota // make a new server and let it take traffic
	Ready            // let a leaving server take traffic again
	Weigh            // change the weight; 0 drains
	Remove           // take no new requests; Delete follows once its sessions are gone
	Delete           // forget it; refused while it has sessions
	Kick             // end its sessions
	Mark             // call it up or down until its next check
)

func (o Op) String() string {
	return [...]string{"add", "ready", "weigh", "remove", "delete", "kick", "mark"}[o]
}

// A Command is one change at run time.
type Command struct {
	Op      Op
	Backend string
	Server  Server
	line    string // of Add
}

func (c Command) String() string {
	return fmt.Sprintf("%s %s/%s weight %d", c.Op, c.Backend, c.Server.Name, c.Server.Weight)
}

// Lines returns the command in HAProxy's words, in order.
func (c Command) Lines() []string {
	name := word(c.Backend) + "/" + word(c.Server.Name)
	set := "set server " + name + " "
	weigh := []string{set + "weight " + fmt.Sprint(c.Server.Weight), set + "state " + state(c.Server.Weight)}
	switch c.Op {
	case Add:
		return []string{"add server " + name + " " + c.line, "enable health " + name, set + "state " + state(c.Server.Weight)}
	case Ready, Weigh:
		return weigh
	case Remove:
		return []string{set + "state maint"}
	case Delete:
		return []string{"del server " + name}
	case Kick:
		return []string{"shutdown sessions server " + name}
	case Mark:
		if c.Server.Down {
			return []string{set + "health down"}
		}
		return []string{set + "health up"}
	}
	panic(fmt.Sprintf("haproxy: no such op: %d", c.Op))
}

func state(weight int) string {
	if weight == 0 {
		return "drain"
	}
	return "ready"
}

// A Change is the way from one section to another: Reload says why it takes a
// reload, and is empty when Commands are enough; a change that is empty in both
// is none.
type Change struct {
	Reload   []Reason
	Commands []Command
	// Waiting is how many servers cannot be added yet, since HAProxy is still
	// deleting another of the same name.
	Waiting int
}

// At returns the change as HAProxy v makes it: one without servers at run time
// reloads for each.
func (c Change) At(v Version, name string) Change {
	if !v.Dynamic() && slices.ContainsFunc(c.Commands, func(c Command) bool { return c.Op != Mark }) {
		c.Reload = append(c.Reload, Reason{ServersChanged, name + ": its servers changed"})
	}
	return c
}

// Empty tells whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Reload) == 0 && len(c.Commands) == 0 }

func (c *Change) merge(more Change) {
	c.Reload = append(c.Reload, more.Reload...)
	c.Commands = append(c.Commands, more.Commands...)
	c.Waiting += more.Waiting
}

// Diff returns the way from old, how a service runs, to want. Only membership
// changes at run time; everything else is a reload, and then the commands are
// left out, since the new process reads everything from its file.
func Diff(old, want *Section) Change {
	var c Change
	if old.Structure != want.Structure {
		c.Reload = append(c.Reload, Reason{ServiceChanged, want.Service.Name + " changed"})
		return c
	}
	have := make(map[string]Backend, len(old.Service.Backends))
	for _, b := range old.Service.Backends {
		have[b.Name] = b
	}
	for _, b := range want.Service.Backends {
		c.merge(diffBackend(want.Service, have[b.Name], b))
	}
	if len(c.Reload) > 0 {
		c.Commands = nil
	}
	return c
}

func diffBackend(service Service, old, want Backend) Change {
	var c Change
	have := make(map[string]*Server, len(old.Servers))
	serving := 0
	for i := range old.Servers {
		s := &old.Servers[i]
		have[s.Name] = s
		if !s.Leaving {
			serving++
		}
	}
	replaced, joined := 0, 0
	for _, s := range byName(want.Servers) {
		was, ok := have[s.Name]
		delete(have, s.Name)
		// The service's part of the options is structure, and so the same.
		same := ok && was.Addr == s.Addr && was.ID == s.ID && was.Options == s.Options
		switch {
		case !ok:
			joined++
			c.Commands = append(c.Commands, Command{Add, want.Name, s, ServerLine(service, s)})
		case same && was.Leaving:
			c.Commands = append(c.Commands, Command{Ready, want.Name, s, ""})
		case same && was.Weight != s.Weight:
			c.Commands = append(c.Commands, Command{Weigh, want.Name, s, ""})
		case same:
		case was.Leaving:
			c.Waiting++
		default:
			// One server cannot have other options: it goes, and comes again.
			replaced++
			c.Waiting++
			c.Commands = append(c.Commands, Command{Remove, want.Name, *was, ""})
			continue
		}
		if down := ok && was.Down; down != s.Down && (same || !ok) {
			c.Commands = append(c.Commands, Command{Mark, want.Name, s, ""})
		}
	}
	var leave []string
	for name, s := range have {
		if !s.Leaving {
			leave = append(leave, name)
		}
	}
	slices.Sort(leave)
	for _, name := range leave {
		c.Commands = append(c.Commands, Command{Remove, want.Name, *have[name], ""})
	}
	switch {
	case !service.Dynamic() && joined+len(leave)+replaced > 0:
		c.Reload = append(c.Reload, Reason{BalanceIsStatic, fmt.Sprintf("%s changed, and balance %s takes no servers at run time", want.Name, service.Balance)})
	case replaced*2 > serving:
		c.Reload = append(c.Reload, Reason{ServerOptions, fmt.Sprintf("options of %d of %d servers of %s changed", replaced, serving, want.Name)})
	}
	return c
}

// Refused returns what HAProxy had against the command, given its answers to
// Lines; nil if it was done, and for Mark: HAProxy's own check comes anyway.
func (c Command) Refused(answers []string) error {
	if c.Op == Mark {
		return nil
	}
	want := ""
	for i, a := range answers {
		switch {
		case c.Op == Add && i == 0:
			want = "New server registered."
		case c.Op == Delete:
			want = "Server deleted."
		default:
			want = ""
		}
		if strings.TrimSpace(a) == want || c.Op == Delete && strings.HasPrefix(a, "No such server") {
			continue
		}
		return fmt.Errorf("runtime api: %s: %s", c.Lines()[i], strings.TrimSpace(a))
	}
	return nil
}

// Applied returns s as it is once HAProxy has done the commands.
func Applied(s Service, commands []Command) Service {
	s.Backends = slices.Clone(s.Backends)
	for i, b := range s.Backends {
		servers := slices.Clone(b.Servers)
		for _, c := range commands {
			if c.Backend != b.Name {
				continue
			}
			at := slices.IndexFunc(servers, func(srv Server) bool { return srv.Name == c.Server.Name })
			switch {
			case c.Op == Add && at < 0:
				at, _ = slices.BinarySearchFunc(servers, c.Server, compareNames) // so that byName has nothing to do
				servers = slices.Insert(servers, at, c.Server)
			case at < 0:
			case c.Op == Ready, c.Op == Weigh:
				servers[at].Weight, servers[at].Leaving = c.Server.Weight, false
			case c.Op == Mark:
				servers[at].Down = c.Server.Down
			case c.Op == Remove:
				servers[at].Leaving = true
			case c.Op == Delete:
				servers = slices.Delete(servers, at, at+1)
			}
		}
		s.Backends[i].Servers = servers
	}
	return s
}

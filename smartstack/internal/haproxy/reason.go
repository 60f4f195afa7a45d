package haproxy

// A Reason is why something takes a reload.
type Reason struct {
	Kind ReasonKind
	Text string // for people, with names
}

func (r Reason) String() string { return r.Text }

// A ReasonKind is what metrics count reasons by.
type ReasonKind string

// The kinds.
const (
	ServiceNew      ReasonKind = "service_new"
	ServiceGone     ReasonKind = "service_gone"
	ServiceChanged  ReasonKind = "service_changed"
	CustomChanged   ReasonKind = "custom_config"
	ServersChanged  ReasonKind = "servers" // of a HAProxy that takes none at run time
	BalanceIsStatic ReasonKind = "balance" // as ServersChanged, but only of one service
	ServerOptions   ReasonKind = "server_options"
	Adopted         ReasonKind = "adopted" // runs with another config than it should
	NotRunning      ReasonKind = "not_running"
	Died            ReasonKind = "died"
)

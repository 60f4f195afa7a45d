package plug

import (
	"context"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A Dropper drops new connections' SYNs by a firewall rule while it "holds", as
// people did before there was a plug: each dropped SYN costs its client a
// second. It is here for the comparison in bench-reload and for nothing else.
type Dropper struct{ sel *selector }

// NewDropper makes a dropper for the address in Options.
func NewDropper(o Options) (*Dropper, error) {
	o = o.withDefaults()
	d := &Dropper{newSelector(nftables.TableFamilyIPv4, tableName+"_drop", o.Address)}
	return d, d.sel.install([]hook{inputHook}, nil, "")
}

// Hold drops, for a minute at most.
func (d *Dropper) Hold(context.Context) error {
	return d.sel.arm(inputHook, append(synsTo(d.sel.addr), &expr.Verdict{Kind: expr.VerdictDrop}), time.Minute)
}

// Release ends it.
func (d *Dropper) Release(context.Context) error { return d.sel.disarm(inputHook) }

// Close removes the rule's table.
func (d *Dropper) Close() error { return d.sel.remove() }

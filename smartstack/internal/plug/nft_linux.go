package plug

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	tableName = "paasta_plug"
	setName   = "held"
)

// A rule is a list of nftables expressions in the kernel's own encoding.
// google/nftables has no "fwd" expression and does not let others add one, so
// rules are sent from here and everything else by the library.
type rule [][]byte

func encode(family nftables.TableFamily, exprs ...expr.Any) (rule, error) {
	var r rule
	for _, e := range exprs {
		b, err := expr.Marshal(byte(family), e)
		if err != nil {
			return nil, err
		}
		r = append(r, b)
	}
	return r, nil
}

// synsTo is the match that all methods share: the first packet of a new TCP
// connection to an address that is in the set now.
func synsTo(addr netip.Addr) []expr.Any {
	proto, offset, length := uint16(unix.ETH_P_IP), uint32(16), uint32(4)
	if addr.Is6() {
		proto, offset, length = unix.ETH_P_IPV6, 24, 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(proto)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: 1, SetName: setName},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}}, // fin, syn, rst, ack
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x02}},                                  // syn alone
	}
}

// forward sends a packet out of a device, for an ifb: back in after its queue.
func forward(device int) (rule, error) {
	load, err := encode(0, &expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(uint32(device))})
	if err != nil {
		return nil, err
	}
	const sregDev = 1 // NFTA_FWD_SREG_DEV
	data, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: sregDev, Data: binaryutil.BigEndian.PutUint32(1)}})
	if err != nil {
		return nil, err
	}
	fwd, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_EXPR_NAME, Data: []byte("fwd\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_EXPR_DATA, Data: data},
	})
	return append(load, fwd), err
}

// queueTo hands a packet to user space, or lets it pass if nobody listens.
func queueTo(number uint16) expr.Any {
	return &expr.Queue{Num: number, Flag: expr.QueueFlagBypass}
}

// queueToCompat does the same through iptables' NFQUEUE target, for kernels
// whose nftables have no queue statement.
func queueToCompat(number uint16) expr.Any {
	info := queueInfo(binary.NativeEndian, number)
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

// queueInfo is the kernel's struct xt_NFQ_info_v3, three __u16 in host byte order,
// at the size to which xtables aligns it (XT_ALIGN: that of a __u64).
func queueInfo(order binary.AppendByteOrder, number uint16) xt.Unknown {
	const bypass = 1 // NFQ_FLAG_BYPASS
	info := order.AppendUint16(nil, number)
	info = order.AppendUint16(info, 1)
	info = order.AppendUint16(info, bypass)
	return append(info, 0, 0)
}

// A selector is our nftables table: a set of addresses whose new connections
// are chosen, with an expiry, and chains that ask it.
type selector struct {
	table *nftables.Table
	set   *nftables.Set
	addr  netip.Addr
}

func newSelector(family nftables.TableFamily, name string, addr netip.Addr) *selector {
	t := &nftables.Table{Family: family, Name: name}
	key := nftables.TypeIPAddr
	if addr.Is6() {
		key = nftables.TypeIP6Addr
	}
	return &selector{table: t, addr: addr, set: &nftables.Set{Table: t, Name: setName, KeyType: key, HasTimeout: true}}
}

// A hook is where a chain listens: an input hook, or a device's ingress.
type hook struct {
	name   string
	device string // empty for the input hook
}

// transaction makes changes at once; what names them in an error.
func (s *selector) transaction(what string, change func(*nftables.Conn) error) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("%s of the nftables table %s: %w", what, s.table.Name, err)
	}
	return nil
}

// install makes the table anew, in one transaction, with a chain a hook, and
// then adds the rule, if there is one, to each. Without a rule a chain does
// nothing. The note becomes the name of a chain more, one that nothing calls,
// since that is what every kernel and tool keeps and shows.
func (s *selector) install(hooks []hook, r rule, note string) error {
	err := s.transaction("add the chains", func(c *nftables.Conn) error {
		c.AddTable(s.table)
		c.DelTable(s.table)
		c.AddTable(s.table)
		if note != "" {
			c.AddChain(&nftables.Chain{Table: s.table, Name: note})
		}
		for _, h := range hooks {
			c.AddChain(s.chain(h))
		}
		return c.AddSet(s.set, nil)
	})
	if err != nil || len(r) == 0 {
		return err
	}
	for _, h := range hooks {
		if err := addRule(s.table, h.name, r); err != nil {
			return fmt.Errorf("add the rule to nftables chain %s %s: %w", s.table.Name, h.name, err)
		}
	}
	return nil
}

func (s *selector) chain(h hook) *nftables.Chain {
	chain := &nftables.Chain{Table: s.table, Name: h.name, Type: nftables.ChainTypeFilter, Device: h.device}
	if h.device != "" {
		chain.Hooknum, chain.Priority = nftables.ChainHookIngress, nftables.ChainPriorityFilter
	} else {
		chain.Hooknum, chain.Priority = nftables.ChainHookInput, nftables.ChainPriorityMangle
	}
	return chain
}

// arm chooses the address for d and puts a rule into a chain that has none, in
// one transaction.
func (s *selector) arm(h hook, exprs []expr.Any, d time.Duration) error {
	return s.transaction("add the rule", func(c *nftables.Conn) error {
		c.FlushChain(s.chain(h))
		c.AddRule(&nftables.Rule{Table: s.table, Chain: s.chain(h), Exprs: exprs})
		return s.setAddress(c, d)
	})
}

// disarm stops choosing and takes the rule away. The chain stays: when one goes
// the kernel drops what waits in any queue. A table that is not there is no
// error.
func (s *selector) disarm(h hook) error {
	return ignoreMissing(s.transaction("flush the rule", func(c *nftables.Conn) error {
		c.FlushChain(s.chain(h))
		c.FlushSet(s.set)
		return nil
	}))
}

// setAddress makes the address the only element of the set, for d from now. Adding
// one that is there would not move its expiry.
func (s *selector) setAddress(c *nftables.Conn, d time.Duration) error {
	c.FlushSet(s.set)
	return c.SetAddElements(s.set, []nftables.SetElement{{Key: s.addr.AsSlice(), Timeout: d}})
}

// choose chooses the address for d from now.
func (s *selector) choose(d time.Duration) error {
	return s.transaction("choose the address", func(c *nftables.Conn) error { return s.setAddress(c, d) })
}

// forget stops choosing. A table that is not there is no error.
func (s *selector) forget() error {
	return ignoreMissing(s.transaction("flush the set", func(c *nftables.Conn) error {
		c.FlushSet(s.set)
		return nil
	}))
}

// remove deletes the table. One that is not there is no error.
func (s *selector) remove() error {
	return s.transaction("delete all", func(c *nftables.Conn) error {
		c.AddTable(s.table)
		c.DelTable(s.table)
		return nil
	})
}

func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

// isMissing says that the kernel did not find what a request was about. The library
// passes some errors on as text only.
func isMissing(err error) bool {
	return errors.Is(err, unix.ENOENT) || err != nil && strings.HasSuffix(err.Error(), unix.ENOENT.Error())
}

// chains returns the names of the chains that are there, sorted; none when
// there is no table.
func (s *selector) chains() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	all, err := c.ListChainsOfTableFamily(s.table.Family)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var names []string
	for _, chain := range all {
		if chain.Table.Name == s.table.Name {
			names = append(names, chain.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// chosen says whether the set has an element that has not expired.
func (s *selector) chosen() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	elements, err := c.GetSetElements(s.set)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the nftables set %s: %w", s.table.Name, err)
	}
	return len(elements) > 0, nil
}

// addRule appends a rule to a chain, in a transaction of its own.
func addRule(t *nftables.Table, chain string, r rule) error {
	var list []netlink.Attribute
	for _, e := range r {
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: e})
	}
	exprs, err := netlink.MarshalAttributes(list)
	if err != nil {
		return err
	}
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: exprs},
	})
	if err != nil {
		return err
	}
	batch := []byte{unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES} // struct nfgenmsg
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: batch},
		{
			Header: netlink.Header{
				Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE,
				Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Append,
			},
			Data: append([]byte{byte(t.Family), 0, 0, 0}, attrs...),
		},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: batch},
	})
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err = conn.Receive()
	return err
}

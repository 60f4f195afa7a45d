package plug

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// From linux/netfilter/nfnetlink_queue.h.
const (
	nfqMsgPacket  = unix.NFNL_SUBSYS_QUEUE << 8
	nfqMsgConfig  = unix.NFNL_SUBSYS_QUEUE<<8 | 2
	nfqMsgVerdict = unix.NFNL_SUBSYS_QUEUE<<8 | 3 // VERDICT_BATCH

	nfqaPacketHeader = 1
	nfqaVerdict      = 2

	nfqaConfigCommand = 1
	nfqaConfigParams  = 2
	nfqaConfigMaxLen  = 3
	nfqaConfigMask    = 4
	nfqaConfigFlags   = 5

	nfqBind     = 1
	nfqCopyMeta = 1
	nfqFailOpen = 1

	nfAccept = 1
)

// A queue is a netfilter queue that keeps its packets or accepts them at once.
// Packets never come to us, only their numbers.
type queue struct {
	number uint16
	conn   *netlink.Conn
	done   sync.WaitGroup

	keeping atomic.Bool
	last    atomic.Uint32 // number of the last packet that we heard of
	count   atomic.Int64  // packets since keep
}

// openQueue starts to listen on a queue. A full queue, or a reader that is too
// slow, lets packets pass.
func openQueue(number uint16, limit int) (*queue, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netfilter queue %d: %w", number, err)
	}
	q := &queue{number: number, conn: conn}
	if err := q.configure(limit); err != nil {
		_ = conn.Close()
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) && os.Geteuid() == 0 {
			return nil, fmt.Errorf("netfilter queue %d: %w: another program listens on it", number, ErrForeign)
		}
		return nil, fmt.Errorf("bind netfilter queue %d: %w", number, err)
	}
	q.done.Go(q.read)
	return q, nil
}

func (q *queue) configure(limit int) error {
	// Packets are announced by short messages; room for a burst of them.
	// Without the right to a larger buffer the kernel's default will do, and a
	// reader that falls behind lets packets pass.
	_ = q.conn.SetReadBuffer(8 << 20)
	if err := q.conn.SetOption(netlink.NoENOBUFS, true); err != nil {
		return err
	}
	be := binary.BigEndian
	for _, attrs := range [][]netlink.Attribute{
		{{Type: nfqaConfigCommand, Data: []byte{nfqBind, 0, 0, 0}}},
		{
			{Type: nfqaConfigParams, Data: []byte{0, 0, 0, 0, nfqCopyMeta}},
			{Type: nfqaConfigMaxLen, Data: be.AppendUint32(nil, uint32(limit))},
			{Type: nfqaConfigMask, Data: be.AppendUint32(nil, nfqFailOpen)},
			{Type: nfqaConfigFlags, Data: be.AppendUint32(nil, nfqFailOpen)},
		},
	} {
		m, err := q.message(nfqMsgConfig, netlink.Request|netlink.Acknowledge, attrs)
		if err != nil {
			return err
		}
		if _, err := q.conn.Execute(m); err != nil {
			return err
		}
	}
	return nil
}

func (q *queue) message(kind netlink.HeaderType, flags netlink.HeaderFlags, attrs []netlink.Attribute) (netlink.Message, error) {
	data, err := netlink.MarshalAttributes(attrs)
	head := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, q.number) // struct nfgenmsg
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: flags}, Data: append(head, data...)}, err
}

// read counts what arrives until the socket is closed.
func (q *queue) read() {
	for {
		messages, err := q.conn.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		// Other errors are answers to a verdict that found no packet.
		for _, m := range messages {
			if m.Header.Type != nfqMsgPacket || len(m.Data) < 4 {
				continue
			}
			attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
			if err != nil {
				continue
			}
			for _, a := range attrs {
				if a.Type == nfqaPacketHeader && len(a.Data) >= 4 {
					q.last.Store(binary.BigEndian.Uint32(a.Data))
					q.count.Add(1)
				}
			}
		}
		if len(messages) > 0 && !q.keeping.Load() {
			_ = q.accept() // the next packet, or letGo, tries again
		}
	}
}

func (q *queue) keep() {
	q.count.Store(0)
	q.keeping.Store(true)
}

// letGo accepts what waits and from now on what comes, and returns how many
// had waited.
func (q *queue) letGo() (int, error) {
	kept := q.keeping.Swap(false)
	err := q.accept()
	if !kept {
		return 0, err
	}
	return int(q.count.Load()), err
}

// accept accepts every packet in the queue, also those that we have not heard
// of yet: the kernel takes a number as "up to here".
func (q *queue) accept() error {
	be := binary.BigEndian
	verdict := be.AppendUint32(be.AppendUint32(nil, nfAccept), q.last.Load()+1<<24)
	m, err := q.message(nfqMsgVerdict, netlink.Request, []netlink.Attribute{{Type: nfqaVerdict, Data: verdict}})
	if err != nil {
		return err
	}
	if _, err := q.conn.Send(m); err != nil {
		return fmt.Errorf("let packets of netfilter queue %d go: %w", q.number, err)
	}
	return nil
}

// close waits, briefly, until the queue has been seen empty twice, since what
// is in it when it closes is lost.
func (q *queue) close() error {
	empty := 0
	for deadline := time.Now().Add(200 * time.Millisecond); empty < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		waiting, _, err := queueCounts(q.number)
		if err != nil || waiting == 0 {
			empty++
			continue
		}
		empty = 0
		if _, err := q.letGo(); err != nil {
			break
		}
	}
	err := q.conn.Close()
	q.done.Wait()
	return err
}

// queueCounts reads how many packets wait in a queue and how many it has lost.
// A queue that nobody has opened has none.
func queueCounts(number uint16) (waiting int, dropped uint64, err error) {
	text, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read queue counters: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		var id, peer, mode, size int
		var full, unread uint64 // lost because the queue was full, or its reader too slow
		if _, err := fmt.Sscan(line, &id, &peer, &waiting, &mode, &size, &full, &unread); err != nil {
			return 0, 0, fmt.Errorf("read queue counters: %w", err)
		}
		if id == int(number) {
			return waiting, full + unread, nil
		}
	}
	return 0, 0, nil
}

package plug

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

// BenchmarkLoopback is what the methods to catch SYNs cost everybody else on lo
// while nothing is held: the time for a datagram to itself and back, on one
// thread, beside each of the possible set-ups. Ours is "nftables ingress"; the
// well-known article's is "prio root". Each runs in a scratch namespace.
func BenchmarkLoopback(b *testing.B) {
	paastatest.NeedRoot(b)
	const toIFB = "action mirred egress redirect dev plugifb"
	for _, method := range []struct {
		name  string
		setup string
	}{
		{"bare", ""},
		{"nftables ingress", "ours"},
		{"clsact egress", `ip link add plugifb type ifb
ip link set plugifb up
tc qdisc add dev lo clsact
tc filter add dev lo egress protocol ip prio 1 u32 match ip dst 169.254.255.254 match u8 0x02 0x12 at 33 ` + toIFB},
		{"prio root", `tc qdisc add dev lo root handle 1: prio bands 4
tc qdisc add dev lo parent 1:1 handle 10: pfifo limit 1000
tc qdisc add dev lo parent 1:2 handle 20: pfifo limit 1000
tc qdisc add dev lo parent 1:3 handle 30: pfifo limit 1000
tc qdisc add dev lo parent 1:4 handle 40: pfifo limit 1000
tc filter add dev lo protocol ip parent 1: prio 1 handle 1 fw classid 1:4`},
	} {
		if err := inScratchNamespace(func() error { return setUpLoopback(method.setup) }); err != nil {
			b.Logf("%s: not on this kernel: %v", method.name, err) // this is about figures, not about whether it works
			continue
		}
		b.Run(method.name, func(b *testing.B) {
			err := inScratchNamespace(func() error { return errors.Join(setUpLoopback(method.setup), pingLoopback(b)) })
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

func setUpLoopback(how string) error {
	if how == "ours" {
		// The rule's end does not matter to packets that it does not match; a
		// device that is no plug lets every kernel take part.
		q := newQdisc(Options{}.withDefaults(), tableName, ifbName, linux{})
		d, err := q.k.addIFB(ifbName)
		if err != nil {
			return err
		}
		r, err := q.rule(d)
		if err != nil {
			return err
		}
		return q.k.install(q.sel, q.hooks(), r, q.note(d))
	}
	for line := range strings.Lines(how) {
		f := strings.Fields(line)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.TrimSpace(line), err, out)
		}
	}
	return nil
}

// pingLoopback sends datagrams to a socket and back, blocking, on this thread.
func pingLoopback(b *testing.B) error {
	var fds [2]int
	var addrs [2]unix.Sockaddr
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		if addrs[i], err = unix.Getsockname(fd); err != nil {
			return err
		}
		fds[i] = fd
	}
	buf := make([]byte, 64)
	b.ResetTimer()
	before := threadTime()
	for range b.N {
		for i := range fds {
			if err := unix.Sendto(fds[i], buf, 0, addrs[1-i]); err != nil {
				return err
			}
			if _, _, err := unix.Recvfrom(fds[1-i], buf, 0); err != nil {
				return err
			}
		}
	}
	b.StopTimer()
	// What others do on this machine is not in the thread's own time.
	b.ReportMetric(float64(threadTime()-before)/float64(b.N), "cpu-ns/op")
	return nil
}

// threadTime is the processor time of this thread, in nanoseconds.
func threadTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // every Linux has this clock
	}
	return ts.Nano()
}

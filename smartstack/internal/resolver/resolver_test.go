package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dns is a resolver whose answers a test changes.
type dns struct {
	mu      sync.Mutex
	answers map[string]string // "10.0.0.1 10.0.0.2", or "" for an error
	slow    map[string]bool   // never answers
	asked   map[string]int
	at      int // look-ups under way
	most    int
}

func (d *dns) set(name, answer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[name] = answer
}

func (d *dns) count(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[name]
}

func (d *dns) resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	d.mu.Lock()
	d.asked[name]++
	d.at++
	d.most = max(d.most, d.at)
	answer, slow := d.answers[name], d.slow[name]
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.at--
		d.mu.Unlock()
	}()
	takes := 10 * time.Millisecond
	if slow {
		takes = time.Hour
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(takes):
	}
	if answer == "" {
		return nil, errors.New("no such host")
	}
	var addrs []netip.Addr
	for a := range strings.FieldsSeq(answer) {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

// run gives a test in a bubble a cache that runs, and counts its changes.
func run(t *testing.T, test func(t *testing.T, b *Cache, d *dns, changes func() int)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dns{answers: map[string]string{}, slow: map[string]bool{}, asked: map[string]int{}}
		var mu sync.Mutex
		n := 0
		b := &Cache{Resolve: d.resolve, Log: slog.New(slog.DiscardHandler), Changed: func() { mu.Lock(); n++; mu.Unlock() }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		test(t, b, d, func() int { mu.Lock(); defer mu.Unlock(); return n })
	})
}

// says compares what the cache says of a name with want: an address, or a part
// of an error.
func says(t *testing.T, b *Cache, name, want string) {
	t.Helper()
	addr, err := b.Lookup(name)
	if got := fmt.Sprint(addr, " ", err); !strings.Contains(got, want) || err == nil && addr.String() != want {
		t.Errorf("%s: %s, want %s", name, got, want)
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFollowsAName(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, changes func() int) {
		d.set("db", "10.0.0.2 10.0.0.1 fe80::1")
		says(t, b, "db", "is being looked up")
		b.Want("web", []string{"db"})
		says(t, b, "db", "is being looked up")
		pass(time.Second)
		says(t, b, "db", "10.0.0.1") // the lowest of IPv4
		d.set("db", "10.0.0.0 10.0.0.1")
		pass(every * 2)
		says(t, b, "db", "10.0.0.1") // the one in use stays while the name has it
		if n := changes(); n != 1 {
			t.Errorf("%d changes, want 1", n)
		}
		d.set("db", "10.0.0.9")
		pass(every + every/5)
		says(t, b, "db", "10.0.0.9")
		if n := changes(); n != 2 {
			t.Errorf("%d changes, want 2", n)
		}
		before := d.count("db")
		pass(10 * every)
		if n := d.count("db") - before; n < 9 || n > 11 {
			t.Errorf("%d look-ups in ten times %s", n, every)
		}
	})
}

func TestKeepsTheLastGoodAddress(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, changes func() int) {
		d.set("db", "10.0.0.1")
		b.Want("web", []string{"db"})
		pass(time.Second)
		d.set("db", "")
		pass(10 * every)
		says(t, b, "db", "10.0.0.1")
		a := b.Answer("db")
		if a.Err == nil || time.Since(a.At) < 8*every {
			t.Errorf("%+v, want an error and an old answer", a)
		}
		d.set("db", "0.0.0.0 ff02::1")
		pass(2 * every)
		says(t, b, "db", "10.0.0.1")
		if a := b.Answer("db"); a.Err == nil || !strings.Contains(a.Err.Error(), "none of them of a host") {
			t.Errorf("%v", a.Err)
		}
		if n := changes(); n != 1 {
			t.Errorf("%d changes, want 1", n)
		}
		d.set("db", "10.0.0.2")
		pass(2 * every)
		says(t, b, "db", "10.0.0.2")
		if a := b.Answer("db"); a.Err != nil {
			t.Errorf("%v", a.Err)
		}
	})
}

func TestBacksOff(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, changes func() int) {
		b.Want("web", []string{"nowhere"})
		pass(time.Second / 2)
		says(t, b, "nowhere", "no such host")
		pass(time.Minute)
		if n := d.count("nowhere"); n < 5 || n > 8 { // at 0, 1, 3, 7, 15, 31, 61 s
			t.Errorf("%d look-ups in a minute", n)
		}
		before := d.count("nowhere")
		pass(10 * every)
		if n := d.count("nowhere") - before; n < 9 || n > 11 {
			t.Errorf("%d look-ups in ten times %s", n, every)
		}
		if n := changes(); n != 1 {
			t.Errorf("%d changes, want 1: that there is no answer", n)
		}
		// A name that is there now is found without a wait for the next try.
		d.set("nowhere", "10.0.0.1")
		pass(every + time.Second)
		says(t, b, "nowhere", "10.0.0.1")
	})
}

func TestOneSlowNameHoldsUpNoOther(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, _ func() int) {
		var all []string
		for i := range 10 * atOnce {
			name := fmt.Sprint("host", i)
			d.set(name, "10.0.0.1")
			all = append(all, name)
		}
		d.slow["slow"] = true
		b.Want("web", []string{"slow"})
		b.Want("api", all)
		start := time.Now()
		b.Await(t.Context(), all)
		if took := time.Since(start); took > time.Second {
			t.Errorf("waited for %s", took)
		}
		for _, name := range all {
			says(t, b, name, "10.0.0.1")
		}
		says(t, b, "slow", "is being looked up")
		b.Await(t.Context(), []string{"slow"})
		says(t, b, "slow", "deadline exceeded")
		if took := time.Since(start); took > lookupWithin+time.Second {
			t.Errorf("a name that nobody answers for was given up after %s, want about %s", took, lookupWithin)
		}
		if d.most > atOnce {
			t.Errorf("%d look-ups at once, want at most %d", d.most, atOnce)
		}
	})
}

func TestForgetsWhatNobodyWants(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, _ func() int) {
		d.set("db", "10.0.0.1")
		b.Want("web", []string{"db"})
		b.Want("api", []string{"db"})
		pass(time.Second)
		b.Want("web", nil)
		pass(10 * every)
		says(t, b, "db", "10.0.0.1")
		b.Want("api", nil)
		says(t, b, "db", "10.0.0.1") // it may come back at once
		pass(2 * every)
		says(t, b, "db", "is being looked up")
		n := d.count("db")
		pass(10 * every)
		if d.count("db") != n {
			t.Error("a name that nobody wants is looked up")
		}
		b.Want("web", []string{"db"})
		pass(time.Second)
		says(t, b, "db", "10.0.0.1")
	})
}

func TestSeed(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, _ func() int) {
		b.Seed("db", netip.MustParseAddr("10.0.0.1"))
		b.Seed("unwanted", netip.MustParseAddr("10.0.0.1"))
		says(t, b, "db", "10.0.0.1")
		pass(time.Second)
		b.Want("web", []string{"db"}) // it is looked up at once, and does not exist
		pass(time.Second)
		says(t, b, "db", "10.0.0.1")
		if b.Answer("db").Err == nil {
			t.Error("no error")
		}
		d.set("db", "10.0.0.2")
		pass(every)
		says(t, b, "db", "10.0.0.2")
		b.Seed("db", netip.MustParseAddr("10.0.0.1"))
		says(t, b, "db", "10.0.0.2")
		pass(every)
		says(t, b, "unwanted", "is being looked up")
	})
}

func TestBounded(t *testing.T) {
	run(t, func(t *testing.T, b *Cache, d *dns, _ func() int) {
		var flood []string
		for i := range 2 * most {
			flood = append(flood, fmt.Sprint("flood", i))
			d.set(flood[i], "10.0.0.1")
		}
		b.Want("flood", flood)
		pass(time.Minute)
		if n := len(b.hosts); n != most {
			t.Errorf("%d names, want %d", n, most)
		}
		says(t, b, "flood0", "10.0.0.1")
		says(t, b, fmt.Sprint("flood", most), "is one of more than")
		b.Want("flood", nil)
		pass(2 * every)
		if n := len(b.hosts); n != 0 {
			t.Errorf("%d names are left", n)
		}
	})
}

// hostsEnv tells a test that it has a hosts file of its own.
const hostsEnv = "PAASTA_TEST_HOSTS"

// TestHostsFile changes a real /etc/hosts, in a mount namespace of its own, and
// asks this host's resolver.
func TestHostsFile(t *testing.T) {
	file := os.Getenv(hostsEnv)
	if file == "" {
		t.Parallel()
		paastatest.NeedRoot(t)
		unshare := paastatest.Need(t, "unshare")
		dir := t.TempDir()
		hosts, dns := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
		write(t, hosts, "127.0.0.7 db.example db\n127.0.0.1 localhost\n")
		write(t, dns, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
		// Without a network there is no DNS either.
		cmd := exec.Command(unshare, "--mount", "--net", "sh", "-ec", `mount --bind "$1" /etc/hosts; mount --bind "$2" /etc/resolv.conf; exec "$3" -test.run '^TestHostsFile$' -test.v`,
			"sh", hosts, dns, os.Args[0])
		cmd.Env = append(os.Environ(), hostsEnv+"="+hosts)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("with a hosts file of its own: %v\n%s", err, out)
		}
		return
	}
	b := &Cache{Log: slog.New(slog.DiscardHandler), Every: 200 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	defer func() { cancel(); <-done }()
	b.Want("web", []string{"db.example", "db", "localhost", "nowhere.example"})
	wait, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	b.Await(wait, []string{"db.example", "db", "localhost", "nowhere.example"})
	says(t, b, "db.example", "127.0.0.7")
	says(t, b, "db", "127.0.0.7")
	says(t, b, "localhost", "127.0.0.1")
	says(t, b, "nowhere.example", "nowhere.example")

	write(t, file, "127.0.0.8 db.example\n127.0.0.9 nowhere.example\n")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // Go reads the file every 5 s
		a, err := b.Lookup("nowhere.example")
		if err == nil && a.String() == "127.0.0.9" || time.Now().After(deadline) {
			break
		}
	}
	says(t, b, "nowhere.example", "127.0.0.9")
	says(t, b, "db", "127.0.0.7") // nobody's now: the last good address stays
	for b.Answer("db.example").Addr.String() != "127.0.0.8" && wait.Err() == nil {
		time.Sleep(50 * time.Millisecond)
	}
	says(t, b, "db.example", "127.0.0.8")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

package environment

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/process"
)

// ended is the owner that a process was which has ended.
func ended(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "60") // what has ended has no name
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	name := process.Name(cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	return name
}

func TestStale(t *testing.T) {
	t.Parallel()
	now := time.Now()
	later := now.Add(time.Hour)
	me := owner()
	reused := me[:strings.LastIndex(me, "/")] + "/1"
	gone, foreign := ended(t), "another-boot/pid:[4026531836]/17/4711"
	tests := map[string]struct {
		x    Environment
		want string
	}{
		"in use":                         {Environment{Until: later, owner: me, tied: true, complete: true, gatewayRuns: true}, ""},
		"being made":                     {Environment{Until: later, owner: me}, ""},
		"left up":                        {Environment{Until: later, owner: gone, complete: true, gatewayRuns: true}, ""},
		"left by run":                    {Environment{Until: later, owner: gone, tied: true, complete: true, gatewayRuns: true}, "the command that it was made for has ended"},
		"its process id is another's":    {Environment{Until: later, owner: reused, tied: true, complete: true, gatewayRuns: true}, "the command that it was made for has ended"},
		"half made":                      {Environment{Until: later, owner: gone}, "the command that was making it has ended"},
		"left by run, without names":     {Environment{Until: later, owner: onHost() + gone[strings.LastIndex(gone[:strings.LastIndex(gone, "/")], "/")+1:strings.LastIndex(gone, "/")], tied: true, complete: true, gatewayRuns: true}, "the command that it was made for has ended"},
		"in use, without names":          {Environment{Until: later, owner: onHost() + strconv.Itoa(os.Getpid()), tied: true, complete: true, gatewayRuns: true}, ""},
		"half made on another machine":   {Environment{Until: later, owner: foreign}, ""},
		"of another machine":             {Environment{Until: later, owner: foreign, tied: true, complete: true, gatewayRuns: true}, ""},
		"stopped, since the host booted": {Environment{Until: later, owner: foreign, complete: true}, "it has stopped"},
		"too old":                        {Environment{Until: now.Add(-time.Second), owner: me, complete: true, gatewayRuns: true}, "its time is over"},
		"without labels":                 {Environment{Until: time.Unix(0, 0)}, "its time is over"},
	}
	for name, test := range tests {
		if got := test.x.stale(now); got != test.want {
			t.Errorf("%s: stale says %q, want %q", name, got, test.want)
		}
	}
}

func TestSubnets(t *testing.T) {
	t.Parallel()
	used := []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("198.19.7.128/25"), netip.MustParsePrefix("10.0.0.0/8")}
	free := subnets(used)
	if len(free) != 255 {
		t.Errorf("%d networks are free, want 255", len(free))
	}
	seen := map[netip.Prefix]bool{}
	for _, p := range free {
		for _, u := range used {
			if u.Overlaps(p) {
				t.Errorf("%s overlaps with %s", p, u)
			}
		}
		if seen[p] || p != p.Masked() || p.Bits() != networkBits {
			t.Errorf("odd network %s", p)
		}
		seen[p] = true
	}
	l := layout{free[0]}
	if last := l.dependency(most - 1); l.dynamic().Contains(last) || !l.subnet.Contains(last) {
		t.Errorf("the last dependency has %s, others have %s", last, l.dynamic())
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"write /var/lib/docker/x: no space left on device":             "docker system prune",
		"Bind for 127.0.0.1:49153 failed: port is already allocated":   "the same again",
		"listen tcp4 127.0.0.1:49153: bind: address already in use":    "the same again",
		"something else, about which nothing helpful can be said here": "",
	} {
		var hinted command.HintedError
		err := explain(errors.New(text))
		if errors.As(err, &hinted); err.Error() != text || !strings.Contains(hinted.Hint, want) || want == "" && hinted.Hint != "" {
			t.Errorf("%q: %v, hint %q, want %q", text, err, hinted.Hint, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"users": "USERS", "my-db.2": "MY_DB_2", "Éa": "_A"} {
		if got := Prefix(name); got != want {
			t.Errorf("Prefix(%q) = %q, want %q", name, got, want)
		}
	}
}

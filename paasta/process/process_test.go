package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

func TestLook(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	name := Name(pid)
	look := func(name string, want State, why string) {
		t.Helper()
		if got := StateOf(name); got != want {
			t.Errorf("%s: %s %s, want %s", why, name, got, want)
		}
	}
	look(Self(), Alive, "we")
	look(name, Alive, "a child")
	signal := func(s unix.Signal) {
		if err := cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	signal(unix.SIGSTOP)
	await(t, pid, "T")
	look(name, Alive, "a stopped child")
	signal(unix.SIGKILL)
	await(t, pid, "Z")
	look(name, Gone, "a zombie")
	if got := Name(pid); got != "" {
		t.Errorf("a zombie is named %q", got)
	}
	_ = cmd.Wait() // it was killed
	look(name, Gone, "a child that was reaped")
}

// await waits for a state of a process.
func await(t *testing.T, pid int, state string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), ") "+state+" ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in state %s: %s", state, text)
		}
	}
}

func TestLookAtOthers(t *testing.T) {
	t.Parallel()
	self := Self()
	parts := strings.Split(self, "/")
	if len(parts) != 5 {
		t.Fatalf("%q has not five parts", self)
	}
	with := func(n int, s string) string {
		other := append([]string(nil), parts...)
		other[n] = s
		return strings.Join(other, "/")
	}
	for why, tt := range map[string]struct {
		name string
		want State
	}{
		"another process has its pid":   {with(4, "1"), Gone},
		"there is no such pid":          {with(3, "4194305"), Gone},
		"another host":                  {with(0, "elsewhere"), Unknown},
		"a clone, or an earlier boot":   {with(1, "0c6e2e5e-0000-0000-0000-000000000000"), Unknown},
		"another container":             {with(2, "pid:[1]time:[1]"), Unknown},
		"a group of processes":          {with(3, "-1"), Unknown},
		"whoever asks":                  {with(3, "0"), Unknown},
		"no number":                     {with(3, "x"), Unknown},
		"no start":                      {with(4, ""), Unknown},
		"more than a name":              {self + "/x", Unknown},
		"nothing":                       {"", Unknown},
		"what an earlier version wrote": {"host", Unknown},
	} {
		if got := StateOf(tt.name); got != tt.want {
			t.Errorf("%s (%s): %s, want %s", why, tt.name, got, tt.want)
		}
	}
}

// A process of another user is not gone because we may not signal it.
func TestLookAtAnotherUsers(t *testing.T) {
	t.Parallel()
	paastatest.NeedRoot(t)
	got := make(chan State)
	go func() {
		// Nobody's rights are this thread's alone, and it ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETUID, 65534, 0, 0); errno != 0 {
			t.Errorf("become nobody: %v", errno)
		}
		if err := unix.Kill(1, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("nobody may signal 1: %v", err)
		}
		got <- StateOf(Name(1))
	}()
	if state := <-got; state != Alive {
		t.Errorf("it %s, want lives", state)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	stat := func(name, state, threads string) string {
		return "7 (" + name + ") " + state + " 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 " + threads + " 0 4711 1 1 1"
	}
	for why, tt := range map[string]struct {
		text  string
		ended bool
	}{
		"a sleeper":          {stat("paasta", "S", "9"), false},
		"a name like fields": {stat("a) Z 1 (b", "S", "9"), false},
		"stopped":            {stat("paasta", "T", "9"), false},
		"a zombie":           {stat("paasta", "Z", "1"), true},
		"dead":               {stat("paasta", "X", "0"), true},
		"only its first thread has ended, others": {stat("paasta", "Z", "3"), false},
	} {
		start, ended, err := parseStat(tt.text)
		if err != nil || start != 4711 || ended != tt.ended {
			t.Errorf("%s: %d, %t, %v", why, start, ended, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (x) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _, _ = parseStat(text) // must not panic
	})
}

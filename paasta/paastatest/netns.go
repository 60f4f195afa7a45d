package paastatest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const insideEnv = "PAASTA_TEST_NETNS"

// ParallelInNamespace is InNamespace for a test that may run beside others. Only
// the process outside is parallel, so the one inside may set its environment.
func ParallelInNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != t.Name() {
		t.Parallel()
	}
	return InNamespace(t)
}

// InNamespace gives a test a network namespace of its own, with lo up, so that
// fixed ports and 169.254.255.254 meet nobody else's. It runs the test once
// more, in a process inside the namespace, and there returns true; outside it
// returns false once that process has ended, and the test returns. Use:
//
//	if !paastatest.InNamespace(t) {
//		return
//	}
//
// The namespace is removed afterwards, also after a failure.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	NeedRoot(t)
	Need(t, "ip")
	Need(t, "nsenter")
	name := fmt.Sprintf("ptest%d", os.Getpid())
	for n := 0; ; n++ {
		out, err := exec.Command("ip", "netns", "add", fmt.Sprintf("%s-%d", name, n)).CombinedOutput()
		if err == nil {
			name = fmt.Sprintf("%s-%d", name, n)
			break
		}
		if !strings.Contains(string(out), "File exists") || n > 100 {
			t.Fatalf("ip netns add: %v\n%s", err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete %s: %v\n%s", name, err, out)
		}
	})
	if out, err := exec.Command("ip", "-n", name, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("set lo up: %v\n%s", err, out)
	}
	// nsenter, not "ip netns exec": the latter hides the cgroups from dockerd.
	args := []string{"--net=/run/netns/" + name, os.Args[0], "-test.run", "^" + t.Name() + "$", "-test.v"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout", fmt.Sprint(untilShortlyBefore(deadline)))
	}
	cmd := exec.Command("nsenter", args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in namespace: %v\n%s", err, out)
	} else {
		t.Logf("in namespace %s:\n%s", name, out)
	}
	return false
}

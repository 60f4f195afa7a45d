package haproxy

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Files is how many files a HAProxy needs: two for each connection, one for each
// address that it listens on, one for the check of each server, and some for
// itself. It counts them before it starts, and does not start when it may not
// open as many.
func Files(maxConn, binds, servers int) int {
	spare := servers/10 + 100 // servers that come at run time, and the rest
	return 2*maxConn + binds + servers + spare + 8*runtime.NumCPU()
}

// FitMaxConn returns the most connections, g.MaxConn at most, whose files are not
// more than g.Files, and how many files g.MaxConn would need.
func FitMaxConn(g Global, custom string, sections []*Section) (maxConn, needed int) {
	binds, servers := 1, 0
	for _, s := range sections {
		binds += len(s.Service.Bind)
		for _, b := range s.Service.Backends {
			servers += len(b.Servers)
		}
	}
	for line := range strings.Lines(custom) {
		switch word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word {
		case "bind":
			binds++
		case "server":
			servers++
		}
	}
	needed = Files(g.MaxConn, binds, servers)
	if g.Files == 0 || needed <= g.Files {
		return g.MaxConn, needed
	}
	// With fewer than one HAProxy would choose for itself; it says then what it lacks.
	return max(g.MaxConn-(needed-g.Files+1)/2, 1), needed
}

// FileLimit is how many files a HAProxy may open that this process starts; 0 when
// that is not known. One that may raise its own limit does.
func FileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Max > 1<<31 {
		return 0
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return int(limit.Max)
	}
	const mayRaise = 1 << 24 // CAP_SYS_RESOURCE
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	text, _, _ := strings.Cut(rest, "\n")
	if effective, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64); err != nil || effective&mayRaise == 0 {
		return int(limit.Max)
	}
	most, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return int(limit.Max)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(most))) // of the kernel
	return max(n, int(limit.Max))
}

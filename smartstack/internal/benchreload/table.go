//go:build linux

package benchreload

import (
	"fmt"
	"io"
	"strings"
)

const rowFormat = "| %-9s | %8v | %6v | %11v | %7v | %8v | %8v | %8v | %8v | %7v | %7v | %7v |\n"

// Print writes the report as a Markdown table, which is also one for people.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, rowFormat, "strategy", "requests", "failed", "SYNs resent", "reloads", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "held ms", "longest", "seconds")
	b.WriteString("|---" + strings.Repeat("|--:", 11) + "|\n")
	one := func(x float64) string { return fmt.Sprintf("%.1f", x) }
	for _, x := range r.Results {
		if x.Missing != "" {
			fmt.Fprintf(&b, rowFormat, x.Strategy, "not here", "", "", "", "", "", "", "", "", "", "")
			continue
		}
		held, longest := "–", "–"
		if x.Strategy.losesNoSYN() || x.Strategy == Drop {
			held, longest = one(x.HeldMean), one(x.HeldMax)
		}
		fmt.Fprintf(&b, rowFormat, x.Strategy, x.Requests, x.Failed, x.Retransmitted, x.Reloads,
			one(x.P50), one(x.P99), one(x.P999), one(x.Max), held, longest, fmt.Sprintf("%.0f", x.Seconds))
	}
	fmt.Fprintf(&b, "\nLinux %s, HAProxy %s, %d connections at once, a reload every %.0f ms.\n", r.Kernel, r.HAProxy, r.Concurrency, r.EveryMS)
	for _, x := range r.Results {
		if x.Missing != "" {
			fmt.Fprintf(&b, "%s: %s\n", x.Strategy, x.Missing)
		}
		if x.ReloadsFailed > 0 {
			fmt.Fprintf(&b, "%s: %d more reloads at which the new process did not start, and the old one went on\n", x.Strategy, x.ReloadsFailed)
		}
		for kind, n := range x.Errors {
			fmt.Fprintf(&b, "%s: %d × %s\n", x.Strategy, n, kind)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Failed says how many requests failed of those that were promised to succeed.
func (r Report) Failed() int {
	n := 0
	for _, x := range r.Results {
		if x.Strategy.losesNoSYN() || x.Strategy == Runtime || x.Strategy == NoReload {
			n += x.Failed
		}
	}
	return n
}

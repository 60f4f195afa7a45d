//go:build linux

package benchreload

import (
	"fmt"
	"io"
	"strings"
)

// Print writes the report as a Markdown table, which is also one for people.
func (r Report) Print(w io.Writer) error {
	rows := [][]string{{"strategy", "requests", "failed", "SYNs resent", "reloads", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "held ms", "longest", "seconds"}}
	for _, x := range r.Results {
		if x.Missing != "" {
			rows = append(rows, []string{string(x.Strategy), "not here"})
			continue
		}
		held, longest := "–", "–"
		if x.Strategy.holds() || x.Strategy == Drop {
			held, longest = fmt.Sprintf("%.1f", x.HeldMean), fmt.Sprintf("%.1f", x.HeldMax)
		}
		rows = append(rows, []string{
			string(x.Strategy), fmt.Sprint(x.Requests), fmt.Sprint(x.Failed), fmt.Sprint(x.Retransmitted), fmt.Sprint(x.Reloads),
			fmt.Sprintf("%.1f", x.P50), fmt.Sprintf("%.1f", x.P99), fmt.Sprintf("%.1f", x.P999), fmt.Sprintf("%.1f", x.Max),
			held, longest, fmt.Sprintf("%.0f", x.Seconds),
		})
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		if len(row) < len(width) {
			continue
		}
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i := range width {
			cell := ""
			if i < len(row) {
				cell = row[i]
			}
			pad := strings.Repeat(" ", max(width[i]-len([]rune(cell)), 0))
			if i == 0 {
				cell += pad
			} else {
				cell = pad + cell
			}
			fmt.Fprintf(&b, "| %s ", cell)
		}
		b.WriteString("|\n")
		if n == 0 {
			for i := range width {
				rule := strings.Repeat("-", width[i]+1)
				if i == 0 {
					fmt.Fprintf(&b, "|%s-", rule)
				} else {
					fmt.Fprintf(&b, "|%s:", rule)
				}
			}
			b.WriteString("|\n")
		}
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
		if x.Strategy.holds() || x.Strategy == Runtime || x.Strategy == NoReload {
			n += x.Failed
		}
	}
	return n
}

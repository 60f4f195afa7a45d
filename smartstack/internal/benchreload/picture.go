//go:build linux

package benchreload

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"time"
)

// A picture has one panel a strategy, below each other, on the same scales:
// time to the right, latency upwards by powers of ten.
const (
	panelWidth  = 900
	panelHeight = 130
	panelGap    = 46
	marginLeft  = 76
	marginTop   = 56
	lowest      = 100 * time.Microsecond
	highest     = 10 * time.Second
)

// Draw writes the latencies over time as SVG. Requests that fall on the same
// pixel are one mark, so a million of them make a picture of some hundred
// kilobytes.
func (r Report) Draw(w io.Writer) error {
	var b strings.Builder
	height := marginTop + len(r.Results)*(panelHeight+panelGap) + 10
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12" fill="#222">
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="%d" y="22" font-size="16">Latency of every request while HAProxy reloads every %.0f ms</text>
<text x="%[3]d" y="40" fill="#666">Linux %[5]s, HAProxy %[6]s, %[7]d connections at once; blue: answered, red: failed</text>
`, marginLeft+panelWidth+20, height, marginLeft, r.EveryMS, html.EscapeString(r.Kernel), html.EscapeString(r.HAProxy), r.Concurrency)
	for i, x := range r.Results {
		x.panel(&b, marginTop+i*(panelHeight+panelGap))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Result) panel(b *strings.Builder, top int) {
	top += 18
	title := fmt.Sprintf("%s: %d requests, %d failed, %d SYNs sent again, %d reloads", r.What, r.Requests, r.Failed, r.Retransmitted, r.Reloads)
	if r.Missing != "" {
		title = r.What + ": " + r.Missing
	} else if r.Strategy == Runtime {
		title = fmt.Sprintf("%s: %d requests, %d failed, %d changes", r.What, r.Requests, r.Failed, r.Reloads)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="13">%s</text>`+"\n", marginLeft, top-5, html.EscapeString(title))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#bbb"/>`+"\n", marginLeft, top, panelWidth, panelHeight)
	for d := lowest * 10; d < highest; d *= 10 {
		y := top + row(d)
		fmt.Fprintf(b, `<path d="M%d %dh%d" stroke="#e4e4e4"/><text x="%d" y="%d" text-anchor="end" fill="#666">%s</text>`+"\n",
			marginLeft, y, panelWidth, marginLeft-6, y+4, d)
	}
	end := time.Duration(0)
	for _, p := range r.points {
		end = max(end, p.at)
	}
	if end == 0 {
		return
	}
	for i := range 5 {
		at := end * time.Duration(i) / 4
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#666">%.0f s</text>`+"\n",
			marginLeft+panelWidth*i/4, top+panelHeight+15, at.Seconds())
	}
	for _, layer := range []struct {
		failed bool
		colour string
		size   int
	}{{false, "#2b6cb0", 1}, {true, "#c53030", 3}} {
		if path := r.marks(layer.failed, end, top, layer.size); path != "" {
			fmt.Fprintf(b, `<path fill="none" stroke="%s" stroke-width="%d" d="%s"/>`+"\n", layer.colour, layer.size, path)
		}
	}
}

// marks is the path of the pixels with at least one request, in runs along the
// time axis.
func (r Result) marks(failed bool, end time.Duration, top, size int) string {
	var seen [panelHeight + 1][panelWidth + 1]bool
	for _, p := range r.points {
		if p.failed == failed {
			seen[row(p.took)][int(int64(panelWidth)*int64(p.at)/int64(end))] = true
		}
	}
	var b strings.Builder
	for y := range seen {
		for x := 0; x <= panelWidth; x++ {
			if !seen[y][x] {
				continue
			}
			run := 1
			for x+run <= panelWidth && seen[y][x+run] {
				run++
			}
			fmt.Fprintf(&b, "M%d %d.5h%d", marginLeft+x, top+y, max(run, size))
			x += run
		}
	}
	return b.String()
}

// row is the height of a latency in a panel, from its top.
func row(d time.Duration) int {
	d = min(max(d, lowest), highest)
	return int(panelHeight * (1 - math.Log(float64(d)/float64(lowest))/math.Log(float64(highest)/float64(lowest))))
}

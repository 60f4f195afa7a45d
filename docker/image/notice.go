package image

import (
	"bytes"
	"context"
	"io"
	"os/exec"
)

// hasBuildx tells whether the docker command can build with BuildKit.
func hasBuildx(ctx context.Context) bool {
	return exec.CommandContext(ctx, "docker", "buildx", "version").Run() == nil
}

// notice begins what the docker command prints at each build without buildx. It
// ends with an empty line.
var notice = []byte("DEPRECATED: The legacy builder is deprecated")

// maxNotice is how many lines are dropped at most.
const maxNotice = 5

// A withoutNotice is a writer that drops the notice and hands all else on at
// once: nothing waits for the end of its line that cannot become the notice.
type withoutNotice struct {
	w       io.Writer
	begun   []byte // of the notice, held back
	midLine bool   // what was handed on last has not ended its line
	drop    int    // lines of the notice that may follow
}

func (n *withoutNotice) Write(p []byte) (int, error) {
	var out []byte
	for _, line := range bytes.SplitAfter(p, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if n.midLine {
			out = append(out, line...)
			n.midLine = line[len(line)-1] != '\n'
			continue
		}
		line = append(n.begun, line...)
		n.begun = nil
		ends := line[len(line)-1] == '\n'
		switch {
		case !ends && (n.drop > 0 || bytes.HasPrefix(notice, line) || bytes.HasPrefix(line, notice)):
			n.begun = line
		case n.drop > 0:
			n.drop--
			if len(bytes.TrimSpace(line)) == 0 {
				n.drop = 0
			}
		case bytes.HasPrefix(line, notice):
			n.drop = maxNotice
		default:
			out = append(out, line...)
			n.midLine = !ends
		}
	}
	if len(out) > 0 {
		if _, err := n.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close hands on what was held back.
func (n *withoutNotice) Close() error {
	if n.drop > 0 || len(n.begun) == 0 {
		return nil
	}
	_, err := n.w.Write(n.begun)
	return err
}

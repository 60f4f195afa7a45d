package git

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxBytes bounds what a server may answer: some million refs.
const maxBytes = 512 << 20

// A pkt is one line of git's protocol: four hex digits of length, then data; or
// one of the marks that have no data.
type pkt struct {
	data string
	mark bool // flush, delimiter or response end
}

type pktReader struct{ r *bufio.Reader }

func newPktReader(r io.Reader) *pktReader {
	return &pktReader{bufio.NewReaderSize(io.LimitReader(r, maxBytes), 64<<10)}
}

func (p *pktReader) next() (pkt, error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("line broke off: %w", err)
		}
		return pkt{}, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil {
		return pkt{}, fmt.Errorf("%q is no line of git's protocol", head)
	}
	switch {
	case n < 3:
		return pkt{mark: true}, nil
	case n < 4:
		return pkt{}, fmt.Errorf("%q is no line of git's protocol", head)
	}
	data := make([]byte, n-4)
	if _, err := io.ReadFull(p.r, data); err != nil {
		return pkt{}, fmt.Errorf("line broke off: %w", err)
	}
	return pkt{data: string(data)}, nil
}

const flush, delimiter = "0000", "0001"

func pktLine(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

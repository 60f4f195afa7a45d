package git

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gopaasta/paasta/paasta"
)

// A listing is the refs that a server told.
type listing struct {
	refs         map[string]string // ref to commit
	capabilities string            // of a protocol version 0 advertisement
	version2     bool              // only capabilities so far: ask with lsRefs
}

const zeroSHA = "0000000000000000000000000000000000000000"

// readAdvertisement reads what a server says first: in protocol version 2 its
// capabilities, otherwise all refs, of which those with a prefix are kept.
func readAdvertisement(p *pktReader, prefixes []string) (*listing, error) {
	l := &listing{refs: map[string]string{}}
	for first := true; ; first = false {
		line, err := p.next()
		if errors.Is(err, io.EOF) && first {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, errSilent)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		text := strings.TrimSuffix(line.data, "\n")
		switch {
		case line.mark:
			return l, nil
		case first && text == "version 2":
			l.version2 = true
		case first && text == "version 1", l.version2, strings.HasPrefix(text, "shallow "):
		case strings.HasPrefix(text, "ERR "):
			return nil, errors.New("git server says: " + text[4:])
		default:
			ref, capabilities, _ := strings.Cut(text, "\x00")
			if capabilities != "" {
				l.capabilities = capabilities
			}
			sha, name, ok := strings.Cut(ref, " ")
			if !ok || !paasta.IsSHA(sha) {
				return nil, fmt.Errorf("%w: %.80q is no ref", ErrUnreachable, ref)
			}
			l.add(strings.TrimSuffix(name, "^{}"), sha, prefixes)
		}
	}
}

// add keeps a ref. A peeled one comes after its tag and replaces it.
func (l *listing) add(name, sha string, prefixes []string) {
	if sha == zeroSHA || name == "capabilities" {
		return
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			l.refs[name] = sha
		}
	}
}

// lsRefs is the question of protocol version 2.
func lsRefs(prefixes []string) string {
	var b strings.Builder
	b.WriteString(pktLine("command=ls-refs\n") + pktLine("agent=paasta\n") + delimiter + pktLine("peel\n"))
	for _, prefix := range prefixes {
		b.WriteString(pktLine("ref-prefix " + prefix + "\n"))
	}
	b.WriteString(flush)
	return b.String()
}

// readRefs reads the answer to lsRefs: "<sha> <ref>[ peeled:<sha>]" a line.
func readRefs(p *pktReader, prefixes []string) (*listing, error) {
	l := &listing{refs: map[string]string{}}
	for {
		line, err := p.next()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if line.mark {
			return l, nil
		}
		text := strings.TrimSuffix(line.data, "\n")
		if said, ok := strings.CutPrefix(text, "ERR "); ok {
			return nil, errors.New("git server says: " + said)
		}
		fields := strings.Fields(text)
		if len(fields) < 2 || !paasta.IsSHA(fields[0]) {
			return nil, fmt.Errorf("%w: %.80q is no ref", ErrUnreachable, text)
		}
		sha := fields[0]
		for _, attribute := range fields[2:] {
			if peeled, ok := strings.CutPrefix(attribute, "peeled:"); ok && paasta.IsSHA(peeled) {
				sha = peeled
			}
		}
		l.add(fields[1], sha, prefixes)
	}
}

// updates is the request that creates tags: the commands, and a pack without
// objects. It says that none of them exists, so the server refuses one that
// does.
func updates(advertised *listing, tags []paasta.Tag) ([]byte, error) {
	ask := []string{"agent=paasta"}
	for _, capability := range []string{"report-status", "atomic", "side-band-64k"} {
		if strings.Contains(" "+advertised.capabilities+" ", " "+capability+" ") {
			ask = append(ask, capability)
		} else if capability == "report-status" {
			return nil, errors.New("git server does not report what it did (no report-status)")
		}
	}
	var b bytes.Buffer
	for i, t := range tags {
		if old, ok := advertised.refs[t.Ref()]; ok {
			return nil, fmt.Errorf("%s at %s: %w", t.Ref(), old, ErrExists)
		}
		line := zeroSHA + " " + t.SHA + " " + t.Ref()
		if i == 0 {
			line += "\x00 " + strings.Join(ask, " ")
		}
		b.WriteString(pktLine(line))
	}
	b.WriteString(flush)
	b.Write(emptyPack())
	return b.Bytes(), nil
}

func emptyPack() []byte {
	pack := []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00")
	sum := sha1.Sum(pack)
	return append(pack, sum[:]...)
}

// readReport reads what became of updates.
func readReport(p *pktReader, advertised *listing) error {
	said := &strings.Builder{} // by the server's hooks
	if strings.Contains(" "+advertised.capabilities+" ", " side-band-64k ") {
		inner := &bytes.Buffer{}
		for {
			line, err := p.next()
			if errors.Is(err, io.EOF) || line.mark {
				break
			}
			if err != nil {
				return fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			if line.data == "" {
				continue
			}
			switch line.data[0] {
			case 1:
				inner.WriteString(line.data[1:])
			case 2:
				if said.Len() < 4<<10 {
					said.WriteString(line.data[1:])
				}
			default:
				return errors.New("git server says: " + strings.TrimSpace(line.data[1:]))
			}
		}
		p = newPktReader(inner)
	}
	var refused []error
	unpacked := false
	for {
		line, err := p.next()
		if errors.Is(err, io.EOF) || err == nil && line.mark {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		text := strings.TrimSuffix(line.data, "\n")
		if text == "unpack ok" {
			unpacked = true
		} else if why, ok := strings.CutPrefix(text, "unpack "); ok {
			refused = append(refused, fmt.Errorf("%w: %s", ErrRefused, why))
		} else if why, ok := strings.CutPrefix(text, "ng "); ok {
			refused = append(refused, refusal(why, said.String()))
		}
	}
	if len(refused) > 0 {
		if hook := strings.TrimSpace(said.String()); hook != "" {
			refused = append(refused, errors.New("its hook says: "+strings.ReplaceAll(hook, "\n", "; ")))
		}
		err := refused[0]
		for _, further := range refused[1:] {
			err = fmt.Errorf("%w; %w", err, further)
		}
		return err
	}
	if !unpacked {
		return fmt.Errorf("%w: it did not say whether it took the tags", ErrUnreachable)
	}
	return nil
}

// refusal reads "<ref> <why>". Of a tag that another push has created since the
// refs were advertised, git says why in the side band only.
func refusal(text, said string) error {
	ref, why, _ := strings.Cut(text, " ")
	switch {
	case strings.Contains(why, "already exists"), taken(ref, why), taken(ref, said):
		return fmt.Errorf("%s: %w", ref, ErrExists)
	case strings.Contains(why, "missing necessary objects"), strings.Contains(why, "bad pack"):
		return fmt.Errorf("%s: %w", ref, ErrNoCommit)
	}
	return fmt.Errorf("%w %s: %s", ErrRefused, ref, why)
}

// taken tells whether git says of a ref that another push creates it, or has.
func taken(ref, said string) bool {
	for line := range strings.Lines(said) {
		_, why, ok := strings.Cut(line, "cannot lock ref '"+ref+"': ")
		if ok && (strings.Contains(why, "already exists") || strings.Contains(why, "but expected") || strings.Contains(why, "File exists")) {
			return true
		}
	}
	return false
}

// Package store keeps records in a directory, so that they survive any end of
// the process and of the machine. It is an append-only log of batches, each
// with a checksum: a batch is there as a whole or not at all.
package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// A Store is an open log. Only one goroutine uses it.
type Store struct {
	path    string
	file    *os.File
	lock    *os.File
	records map[string]json.RawMessage // live ones
	size    int64                      // of the file
	live    int64                      // of the records
}

// compactAbove is the size below which a log is never written anew.
const compactAbove = 4 << 20

// Open opens the store in dir, or makes it, and takes it for itself. A batch at
// the end that was not written whole is dropped: nobody was told that it was.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s is in use by another process: stop that one, or name another --state-dir", dir)
	}
	s := &Store{path: filepath.Join(dir, "log"), lock: lock, records: map[string]json.RawMessage{}}
	good, err := s.read()
	if err == nil {
		s.file, err = os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err == nil {
		err = s.file.Truncate(good)
	}
	if err == nil {
		_, err = s.file.Seek(good, io.SeekStart)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", s.path, err), s.Close())
	}
	s.size = good
	return s, nil
}

// Records returns what is stored. The map is the store's own.
func (s *Store) Records() map[string]json.RawMessage { return s.records }

// read fills records and returns how many bytes of the file are good.
func (s *Store) read() (int64, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	good := int64(0)
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return good, nil // what is after the last newline was not written whole
		} else if err != nil {
			return 0, err
		}
		batch, ok := decode(line)
		if !ok {
			if _, err := r.Peek(1); errors.Is(err, io.EOF) {
				return good, nil
			}
			return 0, fmt.Errorf("damaged at byte %d, and not at its end: restore it, or remove it to start empty", good)
		}
		s.apply(batch)
		good += int64(len(line))
	}
}

// decode reads a line: checksum in hex, blank, JSON object, newline.
func decode(line []byte) (map[string]json.RawMessage, bool) {
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok {
		return nil, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.ChecksumIEEE(text) {
		return nil, false
	}
	var batch map[string]json.RawMessage
	return batch, json.Unmarshal(text, &batch) == nil
}

func encode(batch map[string]json.RawMessage) ([]byte, error) {
	text, err := json.Marshal(batch)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(text), text), nil
}

func (s *Store) apply(batch map[string]json.RawMessage) {
	for k, v := range batch {
		s.live -= int64(len(k) + len(s.records[k]))
		delete(s.records, k)
		if string(v) != "null" && v != nil {
			s.records[k] = v
			s.live += int64(len(k) + len(v))
		}
	}
}

// Commit stores a batch: key → value, nil to delete. Once it returns, the batch
// outlives even a loss of power.
func (s *Store) Commit(changes map[string]any) error {
	if len(changes) == 0 {
		return nil
	}
	batch := make(map[string]json.RawMessage, len(changes))
	for k, v := range changes {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode %s: %w", k, err)
		}
		batch[k] = text
	}
	line, err := encode(batch)
	if err != nil {
		return err
	}
	if _, err = s.file.Write(line); err == nil {
		err = sync(s.file)
	}
	if err != nil {
		// Half a batch may be there; what comes next must not be written after it.
		if back := s.file.Truncate(s.size); back == nil {
			_, back = s.file.Seek(s.size, io.SeekStart)
			err = errors.Join(err, back)
		}
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.size += int64(len(line))
	s.apply(batch)
	if s.size > compactAbove && s.size > 4*s.live {
		return s.compact()
	}
	return nil
}

// compact writes the live records to a new log and puts it in place of the old.
func (s *Store) compact() error {
	line, err := encode(s.records)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(line); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(s.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("compact %s: %w", s.path, err), f.Close())
	}
	old := s.file
	s.file, s.size = f, int64(len(line))
	return old.Close()
}

// Close closes the store.
func (s *Store) Close() error {
	var err error
	if s.file != nil {
		err = s.file.Close()
	}
	return errors.Join(err, s.lock.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

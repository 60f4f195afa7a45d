package store_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gopaasta/paasta/docker/marathon/internal/store"
)

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func texts(records map[string]json.RawMessage) map[string]string {
	m := map[string]string{}
	for k, v := range records {
		m[k] = string(v)
	}
	return m
}

// Wherever the log is cut off, what comes back is the state after some batch,
// never half of one.
func TestTornWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	states := []map[string]string{{}}
	for i := range 20 {
		batch := map[string]any{fmt.Sprint("k", i%7): i, fmt.Sprint("k", (i+3)%7): nil, "pair": i, "other": i}
		if err := s.Commit(batch); err != nil {
			t.Fatal(err)
		}
		states = append(states, texts(s.Records()))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(r *rapid.T) {
		torn := append([]byte{}, whole[:rapid.IntRange(0, len(whole)).Draw(r, "cut")]...)
		torn = append(torn, rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(r, "rubbish")...)
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, "log"), torn, 0o600); err != nil {
			r.Fatal(err)
		}
		s, err := store.Open(again)
		if err != nil {
			if strings.Contains(err.Error(), "damaged") && strings.Count(string(torn), "\n") > strings.Count(string(whole[:min(len(torn), len(whole))]), "\n") {
				return // the rubbish has lines of its own
			}
			r.Fatal(err)
		}
		defer s.Close()
		want := states[strings.Count(string(torn[:min(len(torn), len(whole))]), "\n")]
		got := texts(s.Records())
		for _, state := range states {
			if cmp.Equal(got, state) {
				want = state
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("no state that ever was (-want +got):\n%s", diff)
		}
		if err := s.Commit(map[string]any{"new": true}); err != nil {
			r.Fatal(err)
		}
	})
}

func TestDamageIsToldAndNotRepaired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 3 {
		if err := s.Commit(map[string]any{"k": i}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	file := filepath.Join(dir, "log")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[3] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir); err == nil || !strings.Contains(err.Error(), "damaged at byte 0") {
		t.Errorf("got %v, want the place of the damage", err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	if _, err := store.Open(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second one got %v", err)
	}
}

func TestCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	long := strings.Repeat("x", 50_000)
	for i := range 300 {
		if err := s.Commit(map[string]any{fmt.Sprint("k", i%10): long + fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	want := texts(s.Records())
	s.Close()
	info, err := os.Stat(filepath.Join(dir, "log"))
	if err != nil || info.Size() > 8<<20 {
		t.Errorf("the log has %d bytes after 15 MB of changes, %v", info.Size(), err)
	}
	s = open(t, dir)
	defer s.Close()
	if diff := cmp.Diff(want, texts(s.Records())); diff != "" {
		t.Errorf("after compaction (-want +got):\n%s", diff)
	}
}

func BenchmarkCommit(b *testing.B) {
	s, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := 0; b.Loop(); i++ {
		if err := s.Commit(map[string]any{fmt.Sprint("task:", i%100): strings.Repeat("x", 1000)}); err != nil {
			b.Fatal(err)
		}
	}
}

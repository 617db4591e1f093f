package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// clock is a time that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

func newClock() *clock { return &clock{time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)} }

func open(t *testing.T, dir string, l limits, now func() time.Time) *store {
	t.Helper()
	s, err := openStore(dir, l, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func put(t *testing.T, s *store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.put(key, "text/plain", ttl, strings.NewReader(value)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// value returns the value stored under key, or "none".
func value(t *testing.T, s *store, key string) string {
	t.Helper()
	m, file, err := s.get(key)
	if errors.Is(err, errNotFound) {
		return "none"
	}
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.NewSectionReader(file, 0, m.Size))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func files(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestValuesSurviveARestart(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	first := open(t, dir, limits{100, 1000}, c.now)
	put(t, first, "users/1", "Ada", 0)
	put(t, first, "empty", "", 0)
	put(t, first, "short", "gone", time.Minute)
	put(t, first, "users/1", "Ada Lovelace", 0)
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Minute)
	second := open(t, dir, limits{100, 1000}, c.now)
	for key, want := range map[string]string{"users/1": "Ada Lovelace", "empty": "", "short": "none"} {
		if got := value(t, second, key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if st := second.snapshot(); st.Entries != 2 || st.Bytes != 12 {
		t.Errorf("stats %+v, want 2 entries of 12 bytes", st)
	}
	if n := files(t, dir); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
}

func TestDamagedFilesAreDropped(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := open(t, dir, limits{100, 1000}, c.now)
	put(t, s, "good", "value", 0)
	put(t, s, "cut", "value that loses its end", 0)
	put(t, s, "moved", "value", 0)
	damage := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	damage(os.Truncate(s.path("cut"), 20))
	damage(os.Rename(s.path("moved"), s.path("elsewhere")))
	damage(os.WriteFile(filepath.Join(dir, "put-1"), []byte("half"), 0o600))
	damage(os.WriteFile(s.path("tiny"), []byte("x"), 0o600))
	damage(os.WriteFile(s.path("none"), nil, 0o600))
	damage(s.close())
	again := open(t, dir, limits{100, 1000}, c.now)
	if got := value(t, again, "good"); got != "value" {
		t.Errorf("good = %q", got)
	}
	if st := again.snapshot(); st.Entries != 1 || files(t, dir) != 1 {
		t.Errorf("%d entries in %d files, want one", st.Entries, files(t, dir))
	}
}

func TestLeastRecentlyUsedMakesRoom(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := open(t, dir, limits{10, 30}, c.now)
	for _, key := range []string{"a", "b", "c"} {
		put(t, s, key, "0123456789", 0)
		c.pass(time.Second)
	}
	value(t, s, "a") // now b is the oldest
	put(t, s, "d", "01234", 0)
	for key, want := range map[string]string{"a": "0123456789", "b": "none", "c": "0123456789", "d": "01234"} {
		if got := value(t, s, key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if st := s.snapshot(); st.Evictions != 1 || st.Bytes != 25 || files(t, dir) != 3 {
		t.Errorf("stats %+v and %d files, want one eviction, 25 bytes, 3 files", st, files(t, dir))
	}
	put(t, s, "a", "1", 0) // a smaller value frees room
	if st := s.snapshot(); st.Bytes != 16 {
		t.Errorf("%d bytes, want 16", st.Bytes)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	smaller := open(t, dir, limits{10, 10}, c.now)
	if st := smaller.snapshot(); st.Bytes > 10 {
		t.Errorf("a smaller limit is not kept after a restart: %d bytes", st.Bytes)
	}
}

func TestExpiry(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := open(t, dir, limits{10, 100}, c.now)
	put(t, s, "read", "x", time.Minute)
	put(t, s, "swept", "x", time.Minute)
	put(t, s, "kept", "x", time.Hour)
	c.pass(time.Minute - time.Nanosecond)
	if got := value(t, s, "read"); got != "x" {
		t.Errorf("gone before its time: %q", got)
	}
	c.pass(time.Nanosecond)
	if got := value(t, s, "read"); got != "none" {
		t.Errorf("served after its time: %q", got)
	}
	if err := s.sweep(); err != nil {
		t.Fatal(err)
	}
	if st := s.snapshot(); st.Expirations != 2 || st.Entries != 1 || files(t, dir) != 1 {
		t.Errorf("stats %+v and %d files, want two expirations, one entry left", st, files(t, dir))
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, limits{10, 100}, time.Now)
	put(t, s, "key", "old", 0)
	broken := errors.New("connection lost")
	for name, tc := range map[string]struct {
		key  string
		body io.Reader
		want error
	}{
		"too large":    {"key", strings.NewReader("0123456789+"), errTooLarge},
		"endless":      {"key", neverEnding{}, errTooLarge},
		"broken":       {"key", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), broken},
		"bad key":      {"../key", strings.NewReader("x"), errBadKey},
		"long type":    {"key", strings.NewReader("x"), errTooLarge},
		"empty key":    {"", strings.NewReader("x"), errBadKey},
		"too long key": {strings.Repeat("k", maxKeyBytes+1), strings.NewReader("x"), errBadKey},
	} {
		kind := ""
		if name == "long type" {
			kind = strings.Repeat("t", maxMetaBytes)
		}
		if err := s.put(tc.key, kind, 0, tc.body); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
	}
	if got := value(t, s, "key"); got != "old" {
		t.Errorf("the old value became %q", got)
	}
	if n := files(t, dir); n != 1 {
		t.Errorf("%d files, want 1", n)
	}
}

// neverEnding is a request body without end.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestKeys(t *testing.T) {
	for _, good := range []string{"a", "users/1", "img_1.png", "a..b", "...", "user@host:1+2~x-y", strings.Repeat("k", maxKeyBytes)} {
		if err := checkKey(good); err != nil {
			t.Errorf("%q refused: %v", good, err)
		}
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", "..", ".", "a/../b", "./a", "a b", "a\x00b", "ä", "a\\b", "a%2fb", "a?b", strings.Repeat("k", maxKeyBytes+1)} {
		if err := checkKey(bad); !errors.Is(err, errBadKey) {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, limits{1, 1}, time.Now)
	_, err := openStore(dir, limits{1, 1}, time.Now)
	if err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("second store: %v", err)
	}
}

func TestBadLimits(t *testing.T) {
	for _, l := range []limits{{0, 10}, {-1, 10}, {11, 10}} {
		if _, err := openStore(t.TempDir(), l, time.Now); err == nil {
			t.Errorf("limits %+v accepted", l)
		}
	}
}

// Writers, readers and evictions at once: every value that is read is complete, memory agrees with the disk
// in the end, and the limit holds throughout.
func TestConcurrency(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, limits{1 << 10, 8 << 10}, time.Now)
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 100 {
				key := fmt.Sprintf("k%d", (w+i)%16)
				body := bytes.Repeat([]byte{byte('a' + w)}, 512+i)
				if err := s.put(key, "", 0, bytes.NewReader(body)); err != nil {
					t.Error(err)
				}
				m, file, err := s.get(fmt.Sprintf("k%d", i%16))
				if errors.Is(err, errNotFound) {
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				content, err := io.ReadAll(io.NewSectionReader(file, 0, m.Size))
				if err != nil || len(content) < 512 || len(bytes.Trim(content, string(content[:1]))) != 0 {
					t.Errorf("a mixed value of %d bytes: %v", len(content), err)
				}
				_ = file.Close()
				if i%10 == 0 {
					if err := s.remove(key); err != nil && !errors.Is(err, errNotFound) {
						t.Error(err)
					}
				}
				if st := s.snapshot(); st.Bytes > st.MaxBytes {
					t.Errorf("%d bytes of %d", st.Bytes, st.MaxBytes)
				}
			}
		})
	}
	workers.Wait()
	before := s.snapshot()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	after := open(t, dir, limits{1 << 10, 8 << 10}, time.Now).snapshot()
	if before.Entries != after.Entries || before.Bytes != after.Bytes || files(t, dir) != after.Entries {
		t.Errorf("books %+v, disk %+v in %d files", before, after, files(t, dir))
	}
	if before.Evictions == 0 {
		t.Error("nothing was evicted: the test lost its point")
	}
}

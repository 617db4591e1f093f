package main

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Errors that callers distinguish.
var (
	errNotFound = errors.New("no such key")
	errBadKey   = errors.New("bad key")
	errTooLarge = errors.New("value too large")
)

// limits are the limits of a store, in bytes of values.
type limits struct {
	Value int64 // of one value
	Total int64 // of all values; the least recently used ones make room
}

// stats are counters since the start, and what is stored now.
type stats struct {
	Hits        int64 `json:"hits"`
	Misses      int64 `json:"misses"`
	Puts        int64 `json:"puts"`
	Deletes     int64 `json:"deletes"`
	Evictions   int64 `json:"evictions"`
	Expirations int64 `json:"expirations"`
	Entries     int   `json:"entries"`
	Bytes       int64 `json:"bytes"`
	MaxBytes    int64 `json:"maxBytes"`
}

// store keeps values in files of one directory, one file per key, and their order of use in memory. A file's
// name is a hash of its key, so no key can lead outside the directory.
type store struct {
	dir    string
	limits limits
	now    func() time.Time
	lock   *os.File // locked while the store is open: one process per directory

	mu      sync.Mutex
	entries map[string]*list.Element // by key; each value is a meta
	recent  *list.List               // front: used last
	stats   stats
}

// openStore opens or creates a store. It takes over the values that an earlier process left, where the oldest
// are evicted first, and drops files that are truncated or expired.
func openStore(dir string, limits limits, now func() time.Time) (*store, error) {
	if limits.Value <= 0 || limits.Total < limits.Value {
		return nil, fmt.Errorf("bad limits: %d bytes a value, %d bytes in all", limits.Value, limits.Total)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	s := &store{
		dir: dir, limits: limits, now: now, lock: lock,
		entries: map[string]*list.Element{}, recent: list.New(),
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", dir, err), lock.Close())
	}
	return s, nil
}

// lockFile takes a lock that is released when the process ends, if not before.
func lockFile(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another process uses it: stop that one, or give each its own directory")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// close lets another process use the directory.
func (s *store) close() error { return s.lock.Close() }

// load takes over the files of the directory.
func (s *store) load() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var found []meta
	for _, file := range files {
		if strings.HasPrefix(file.Name(), ".") {
			continue
		}
		name := filepath.Join(s.dir, file.Name())
		m, err := readMeta(name)
		if err == nil && fileName(m.Key) != file.Name() {
			err = fmt.Errorf("it is not where the value of key %q belongs", m.Key)
		}
		if err == nil && m.expired(s.now()) {
			err = fmt.Errorf("expired at %v", m.Expires)
		}
		if err == nil {
			found = append(found, m)
			continue
		}
		slog.Info("dropped a file", "file", name, "reason", err)
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	slices.SortFunc(found, func(a, b meta) int { return a.Stored.Compare(b.Stored) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range found {
		s.insert(m)
	}
	return s.makeRoom()
}

// put stores a value, replacing the existing one. With ttl 0 it stays until it is evicted. Readers see the
// old value or the new one, never a part.
func (s *store) put(key, contentType string, ttl time.Duration, value io.Reader) error {
	if err := checkKey(key); err != nil {
		return err
	}
	m := meta{Key: key, Type: contentType, Stored: s.now().UTC()}
	if ttl > 0 {
		m.Expires = m.Stored.Add(ttl)
	}
	temp, err := s.spool(&m, value)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(temp, s.path(key)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	s.forget(key)
	s.insert(m)
	s.stats.Puts++
	return s.makeRoom()
}

// spool writes a value and its meta, whose size it fills in, to a new file, and returns the file's name.
func (s *store) spool(m *meta, value io.Reader) (name string, err error) {
	file, err := os.CreateTemp(s.dir, "put-")
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	m.Size, err = io.Copy(file, io.LimitReader(value, s.limits.Value+1))
	if err != nil {
		return "", err
	}
	if m.Size > s.limits.Value {
		return "", fmt.Errorf("%w: at most %d bytes", errTooLarge, s.limits.Value)
	}
	if err := appendMeta(file, *m); err != nil {
		return "", err
	}
	return file.Name(), file.Sync()
}

// get opens a key's value. The caller closes the file; the value is its first Size bytes. A value that is
// replaced or evicted meanwhile can still be read to its end.
func (s *store) get(key string) (meta, *os.File, error) {
	if err := checkKey(key); err != nil {
		return meta{}, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	element, ok := s.entries[key]
	if ok && element.Value.(meta).expired(s.now()) {
		s.stats.Expirations++
		if err := s.drop(key); err != nil {
			return meta{}, nil, err
		}
		ok = false
	}
	if !ok {
		s.stats.Misses++
		return meta{}, nil, errNotFound
	}
	file, err := os.Open(s.path(key))
	if err != nil {
		return meta{}, nil, err
	}
	s.recent.MoveToFront(element)
	s.stats.Hits++
	return element.Value.(meta), file, nil
}

// remove deletes a key.
func (s *store) remove(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entries[key]; !ok {
		return errNotFound
	}
	s.stats.Deletes++
	return s.drop(key)
}

// sweep deletes expired values.
func (s *store) sweep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []error
	for key, element := range s.entries {
		if element.Value.(meta).expired(s.now()) {
			s.stats.Expirations++
			failed = append(failed, s.drop(key))
		}
	}
	return errors.Join(failed...)
}

// snapshot returns the counters.
func (s *store) snapshot() stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Entries, st.MaxBytes = len(s.entries), s.limits.Total
	return st
}

// insert, forget, drop and makeRoom need s.mu.

// insert makes m the value used last.
func (s *store) insert(m meta) {
	s.entries[m.Key] = s.recent.PushFront(m)
	s.stats.Bytes += m.Size
}

// forget removes a key from memory, not from the disk.
func (s *store) forget(key string) {
	element, ok := s.entries[key]
	if !ok {
		return
	}
	s.stats.Bytes -= element.Value.(meta).Size
	s.recent.Remove(element)
	delete(s.entries, key)
}

// drop deletes a key. A file that somebody else has deleted is not an error.
func (s *store) drop(key string) error {
	s.forget(key)
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeRoom evicts the values used least recently until the rest fits.
func (s *store) makeRoom() error {
	for s.stats.Bytes > s.limits.Total {
		s.stats.Evictions++
		if err := s.drop(s.recent.Back().Value.(meta).Key); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) path(key string) string { return filepath.Join(s.dir, fileName(key)) }

func fileName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// keyPattern allows characters that need no escaping in the path of a URL. The caller should hash long keys.
var keyPattern = regexp.MustCompile(`^[A-Za-z0-9._~:@+-]+(/[A-Za-z0-9._~:@+-]+)*$`)

const maxKeyBytes = 512

// checkKey refuses keys that a proxy or a client would rewrite on the way.
func checkKey(key string) error {
	if len(key) > maxKeyBytes {
		return fmt.Errorf("%w: at most %d bytes", errBadKey, maxKeyBytes)
	}
	if !keyPattern.MatchString(key) {
		return fmt.Errorf("%w: letters, digits and ._~:@+-, in parts divided by single slashes", errBadKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("%w: a part must not be %q", errBadKey, part)
		}
	}
	return nil
}

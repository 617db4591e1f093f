package engine

import (
	"cmp"
	"fmt"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// mirror is the store of a Reflector. It keeps nothing: each object becomes a T at once and goes
// to the index. A watched DELETE (remove) and an absence from a new list (replace) stay distinct;
// a client-go informer does not distinguish them.
type mirror[T any] struct {
	compact func(obj any) (T, error)
	upsert  func(T)
	remove  func(T)
	// replace gets every object of a list that is as new as version.
	replace func(items []T, version uint64)
	// confirm, if not nil, is called before a list is taken; an error rejects the list.
	confirm func() error
	// reached is called when every event up to version was delivered.
	reached func(version uint64)

	// longest is the longest pause before another try after a failure; zero: maxRelist.
	longest time.Duration

	once   sync.Once
	synced chan struct{}
}

var (
	_ cache.TransformingStore      = (*mirror[int])(nil)
	_ cache.ResourceVersionUpdater = (*mirror[int])(nil)
)

func (m *mirror[T]) patience() time.Duration { return cmp.Or(m.longest, maxRelist) }

// Add takes a watched object.
func (m *mirror[T]) Add(obj any) error { return m.with(obj, m.upsert) }

// Update takes a watched change.
func (m *mirror[T]) Update(obj any) error { return m.with(obj, m.upsert) }

// Delete takes a watched deletion.
func (m *mirror[T]) Delete(obj any) error { return m.with(obj, m.remove) }

func (m *mirror[T]) with(obj any, do func(T)) error {
	v, err := m.shrink(obj)
	if err != nil {
		return err
	}
	do(v)
	return nil
}

// Replace takes a whole list: the first, or the one after a watch that could
// not be resumed.
func (m *mirror[T]) Replace(objs []any, resourceVersion string) error {
	version, err := parseVersion(resourceVersion)
	if err != nil {
		return err
	}
	items := make([]T, 0, len(objs))
	for _, obj := range objs {
		v, err := m.shrink(obj)
		if err != nil {
			return err
		}
		items = append(items, v)
	}
	if m.confirm != nil {
		if err := m.confirm(); err != nil {
			return err
		}
	}
	m.replace(items, version)
	m.once.Do(func() { close(m.synced) })
	return nil
}

// Resync has nothing to do: the index is complete.
func (m *mirror[T]) Resync() error { return nil }

// Transformer lets the Reflector buffer a first list as compact values.
func (m *mirror[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return m.shrink(obj) }
}

// UpdateResourceVersion takes the position of the watch.
func (m *mirror[T]) UpdateResourceVersion(resourceVersion string) {
	if version, err := parseVersion(resourceVersion); err == nil && m.reached != nil {
		m.reached(version)
	}
}

// shrink converts an API object, unless it is converted already.
func (m *mirror[T]) shrink(obj any) (T, error) {
	if v, ok := obj.(T); ok {
		return v, nil
	}
	return m.compact(obj)
}

// outdates reports whether an object in a list or a watch, at the version seen, replaces the
// known one. The newer one does, in whatever order they arrive, with one exception: a list is
// authoritative as of its own version, even if it shows an older object than the one known. That
// happens after the API server's store was restored from a backup. list is zero for watch events.
func outdates(seen, known, list uint64) bool {
	return seen > known || seen < known && known <= list
}

// parseVersion reads a resource version. Since Kubernetes 1.35 they are guaranteed to be integers
// that may be compared within one resource; etcd has always provided such versions.
func parseVersion(s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resource version %q is not an integer: with this API server the engine could not tell its own writes from older events", s)
	}
	return v, nil
}

// versionOf returns the resource version of an object of the API server.
func versionOf(obj metav1.Object) (uint64, error) { return parseVersion(obj.GetResourceVersion()) }

func formatVersion(v uint64) string { return strconv.FormatUint(v, 10) }

package engine

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/view"
)

// The engine reads four annotations of a DaemonSet. Anyone who may write one may fill 256 KiB with
// others. Up to maxAnnotations all are kept, so that an ordinary DaemonSet can be written back as it
// is. Beyond that only the four are kept, each cut to the length of the longest valid value.
const (
	maxAnnotations = 16 << 10 // bytes, of keys and values
	maxAnnotation  = 253      // the longest name of an object
)

// trimAnnotations drops annotations beyond the limit, and reports whether it did. It replaces the
// map, since others may hold the old one.
func trimAnnotations(ds *appsv1.DaemonSet) bool {
	size := 0
	for key, value := range ds.Annotations {
		size += len(key) + len(value)
	}
	if size <= maxAnnotations {
		return false
	}
	kept := map[string]string{}
	for _, key := range []string{view.BindByAnnotation, view.UpdateAnnotation, view.PolicyAnnotation, appsv1.DeprecatedTemplateGeneration} {
		if value, ok := ds.Annotations[key]; ok {
			kept[key] = value[:min(len(value), maxAnnotation)]
		}
	}
	ds.Annotations = kept
	return true
}

// whole returns the DaemonSet with all its annotations, so that it can be written back. If some were
// dropped, it is read again.
func (e *engine) whole(ctx context.Context, set *setEntry) (*appsv1.DaemonSet, error) {
	if !set.trimmed {
		return set.ds, nil
	}
	live, err := e.api.liveSet(ctx, set.ds)
	if err != nil {
		return nil, fmt.Errorf("its annotations are too large to be kept in memory: %w", err)
	}
	return live, nil
}

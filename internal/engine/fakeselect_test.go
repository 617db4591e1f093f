package engine

import (
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// How the fake API server applies label selectors: like k8s.io/apiserver's storage/cacher, in
// convertToWatchEvent. An object that gets a label that a watch excludes leaves that watch as DELETED, with
// its previous content: without a deletion time, and without the label.

// labels returns the label selector of a list or a watch.
func (r request) labels() labels.Selector {
	s, err := labels.Parse(first(r.query["labelSelector"]))
	if err != nil {
		panic(err)
	}
	return s
}

func has(o runtime.Object, wanted labels.Selector) bool {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return wanted.Matches(labels.Set(m.GetLabels()))
}

// through returns the change as a watch with that selector shows it, if it does.
func (l logged) through(wanted labels.Selector) (seen logged, shown bool) {
	if wanted.Empty() {
		return l, true
	}
	is, was := l.kind != "DELETED" && has(l.object, wanted), l.was != nil && has(l.was, wanted)
	switch {
	case is && was:
		return logged{kind: "MODIFIED", version: l.version, object: l.object}, true
	case is:
		return logged{kind: "ADDED", version: l.version, object: l.object}, true
	case was:
		left := l.was.DeepCopyObject()
		m, _ := meta.Accessor(left)
		m.SetResourceVersion(strconv.FormatUint(l.version, 10))
		return logged{kind: "DELETED", version: l.version, object: left}, true
	}
	return logged{}, false
}

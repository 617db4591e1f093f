package engine

import (
	"context"
	"sync"
	"time"

	nodev1 "k8s.io/api/node/v1"

	"everynode/internal/view"
)

// runtimeClasses is the resource that says whether a runtime class places demands on a node.
// Nothing waits for it: pods of an unknown class go to the scheduler, so reading it need not be
// permitted either.
const (
	runtimeClasses = "runtimeclasses"
	classesAgain   = time.Minute // how soon it is retried, at most
)

// classEntry is what is kept of a RuntimeClass.
type classEntry struct {
	name  string
	plain bool
}

func (ix *index) watchClasses(ctx context.Context, all *sync.WaitGroup, from api) {
	to := &mirror[classEntry]{compact: compactClass, upsert: ix.upsertClass, remove: ix.removeClass, replace: ix.replaceClasses, longest: classesAgain}
	follow(ctx, all, runtimeClasses, from.client.NodeV1().RuntimeClasses(), &nodev1.RuntimeClass{}, to)
}

func compactClass(obj any) (classEntry, error) {
	c, ok := obj.(*nodev1.RuntimeClass)
	if !ok {
		return classEntry{}, unexpected(obj)
	}
	return classEntry{c.Name, view.PlainClass(c)}, nil
}

func (ix *index) upsertClass(c classEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.setPlain(c.name, c.plain)
}

func (ix *index) removeClass(c classEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.setPlain(c.name, false)
}

func (ix *index) replaceClasses(items []classEntry, _ uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	listed := make(map[string]bool, len(items))
	for _, c := range items {
		listed[c.name] = true
		ix.setPlain(c.name, c.plain)
	}
	for name := range ix.binding.Plain {
		if !listed[name] {
			ix.setPlain(name, false)
		}
	}
}

// setPlain records whether the class is known to place no demands on a node, and makes the engine
// decide again on the DaemonSets that use it. Entries are never modified.
func (ix *index) setPlain(class string, is bool) {
	if ix.binding.Plain[class] == is {
		return
	}
	if is {
		ix.binding.Plain[class] = true
	} else {
		delete(ix.binding.Plain, class)
	}
	for key, old := range ix.sets {
		if view.RuntimeClass(old.ds) != class {
			continue
		}
		e := *old
		e.spec.Scheduled, e.binder = ix.binding.Scheduled(e.ds)
		ix.sets[key] = &e
		ix.owned[string(e.ds.UID)].set = &e
		ix.touch(key)
	}
}

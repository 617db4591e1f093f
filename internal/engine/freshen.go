package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// How long a new leader waits for its watches before it reads pods one by one,
// and how often it looks.
const (
	freshWait  = 2 * time.Second
	freshEvery = 5 * time.Millisecond
)

// freshen makes the index as new as the moment of the call, beyond what watches have delivered. A
// new leader needs that: the last writes of the previous leader may not have arrived here yet,
// nor the template that they were made from. It tries until it succeeds; it returns false if ctx
// ends first.
func (e *engine) freshen(ctx context.Context) bool {
	began := time.Now()
	for pause := range pauses(ctx) {
		err := e.readAll(ctx)
		if err == nil {
			e.log.Info("the index is as new as the lease", "took", time.Since(began).Round(time.Millisecond).String())
			return true
		}
		if ctx.Err() == nil {
			e.log.Warn("could not read the state that the last leader left; trying again", "err", err)
		}
		if !sleep(ctx, pause) {
			return false
		}
	}
	return false
}

// readAll reads pods first, so that the templates are at least as new. Policies come last, so
// that a template that a policy holds is never read without that policy.
func (e *engine) readAll(ctx context.Context) error {
	var pods *podList
	var nodes *nodeList
	reading, readCtx := errgroup.WithContext(ctx)
	reading.Go(func() (err error) {
		if nodes, err = e.api.listNodes(readCtx); err != nil {
			return fmt.Errorf("listing nodes: %w", err)
		}
		return nil
	})
	reading.Go(func() (err error) {
		if pods, err = e.api.listPods(readCtx, e.index.podSelector()); err != nil {
			return fmt.Errorf("listing pods: %w", err)
		}
		if err := e.api.eachRevision(readCtx, e.learnRevision); err != nil {
			return fmt.Errorf("listing ControllerRevisions: %w", err)
		}
		if err := e.api.eachSet(readCtx, e.learnSet); err != nil {
			return fmt.Errorf("listing DaemonSets: %w", err)
		}
		return e.learnReleases(readCtx)
	})
	if err := reading.Wait(); err != nil {
		return err
	}
	if err := e.catchUp(ctx, pods); err != nil {
		return err
	}
	return e.catchUpNodes(ctx, nodes)
}

// podList is what a list says about the relevant pods.
type podList struct {
	version uint64
	narrow  bool             // it leaves out those that a narrow watch does
	pods    map[string]podAt // by UID
}

type podAt struct {
	types.NamespacedName
	version uint64
}

// add takes a page of the list.
func (l *podList) add(page *metav1.PartialObjectMetadataList) error {
	version, err := parseVersion(page.ResourceVersion)
	if err != nil {
		return err
	}
	l.version = version
	for i := range page.Items {
		p := &page.Items[i]
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil && !isDaemonSet(ref) {
			continue
		}
		v, err := versionOf(p)
		if err != nil {
			return err
		}
		l.pods[string(p.UID)] = podAt{types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, v}
	}
	return nil
}

// catchUp waits until the index is past the list, and in the end reads what it
// lacks.
func (e *engine) catchUp(ctx context.Context, l *podList) error {
	for until := time.Now().Add(freshWait); time.Now().Before(until); {
		if len(e.index.behind(l)) == 0 {
			return nil
		}
		if !sleep(ctx, freshEvery) {
			return ctx.Err()
		}
	}
	var all sync.WaitGroup
	room := make(chan struct{}, claimsAtOnce)
	for uid, p := range e.index.behind(l) {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			entry := &podEntry{namespace: p.Namespace}
			entry.Name, entry.UID = p.Name, uid
			e.refresh(ctx, entry)
		})
	}
	all.Wait()
	if n := len(e.index.behind(l)); n > 0 {
		return fmt.Errorf("%d changed pods could not be read", n)
	}
	return nil
}

// behind returns the pods for which the index is older than the list.
func (ix *index) behind(l *podList) map[string]podAt {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	late := map[string]podAt{}
	for uid, p := range l.pods {
		if e := ix.pods[uid]; ix.passed(uid, p.version) || e != nil && e.version >= p.version {
			continue
		}
		late[uid] = p
	}
	for uid, e := range ix.pods {
		if _, listed := l.pods[uid]; !listed && e.version <= l.version && !(l.narrow && e.foreign) {
			late[uid] = podAt{types.NamespacedName{Namespace: e.namespace, Name: e.Name}, e.version}
		}
	}
	return late
}

// passed reports whether a pod that the index does not have is gone: its end was seen after that
// version.
func (ix *index) passed(uid string, version uint64) bool {
	_, buried := ix.buried[uid]
	return buried || ix.pods[uid] == nil && ix.podVersion >= version
}

// nodeList is what a list says about nodes.
type nodeList struct {
	version uint64 // of the list
	newest  uint64 // of the nodes in it
	names   map[string]bool
}

// add takes a page of the list.
func (l *nodeList) add(page *metav1.PartialObjectMetadataList) (err error) {
	if l.version, err = parseVersion(page.ResourceVersion); err != nil {
		return err
	}
	for i := range page.Items {
		version, err := versionOf(&page.Items[i])
		if err != nil {
			return err
		}
		l.names[page.Items[i].Name], l.newest = true, max(l.newest, version)
	}
	return nil
}

// catchUpNodes waits until the index is past the list, and finally reads all nodes: it cannot
// tell which of them are outdated, because the index ignores heartbeats.
func (e *engine) catchUpNodes(ctx context.Context, l *nodeList) error {
	for until := time.Now().Add(freshWait); e.index.behindNodes(l); {
		if time.Now().After(until) {
			return e.readNodes(ctx)
		}
		if !sleep(ctx, freshEvery) {
			return ctx.Err()
		}
	}
	return nil
}

// behindNodes reports whether nodes may have changed, appeared or gone since the index last saw
// them.
func (ix *index) behindNodes(l *nodeList) bool {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.nodeVersion < l.newest {
		return true
	}
	if ix.nodeVersion >= l.version {
		return false
	}
	for name := range ix.nodes {
		if !l.names[name] {
			return true
		}
	}
	return false
}

func (e *engine) readNodes(ctx context.Context) error {
	items, version, err := e.api.nodes(ctx)
	if err != nil {
		return fmt.Errorf("listing whole nodes: %w", err)
	}
	e.index.refreshNodes(items, version)
	return nil
}

// refreshNodes takes a complete list that was read beside the watch, unless the watch has passed
// it meanwhile.
func (ix *index) refreshNodes(items []nodeEntry, version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if version >= ix.nodeVersion {
		ix.putNodes(items, version)
	}
}

package engine

// Which policy the releases of a DaemonSet follow, and what is known about the objects that hold their state. A
// cluster may not have these kinds of objects at all.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// kindsAgain is the longest pause before another try to follow kinds that the cluster does not have.
const kindsAgain = 30 * time.Second

// policyEntry is a RolloutPolicy. It is never written to.
type policyEntry struct {
	policy rollout.Policy
	wrong  []string // what makes it one that must not be followed
	// namespaces and selector choose DaemonSets; chooses says whether they are set: otherwise the policy applies
	// to DaemonSets that name it.
	namespaces []string
	selector   labels.Selector
	chooses    bool
	version    uint64
}

// rolloutEntry is a DaemonSetRollout. It is never written to.
type rolloutEntry struct {
	object  *view.DaemonSetRollout
	version uint64
	// asOf is the version of the list that it came from: it was current then, even if a newer one was known; see outdates.
	asOf uint64
}

// releases is what an index knows about policies and the objects that hold the state of releases.
type releases struct {
	policies map[string]*policyEntry
	rollouts map[types.NamespacedName]*rolloutEntry
	// served means that the policies were listed; absent that the cluster does not have the kind or, if denied,
	// does not let us read it; if neither is set, it is not known yet.
	served, absent, denied bool
	kinds                  kindStates
	// under is the set of DaemonSets in the middle of a release, by UID: any change of a node may matter to
	// them.
	under map[string]bool
	// newestPolicy and newestRollout are the newest versions of their kinds that were seen, including deleted
	// objects.
	newestPolicy, newestRollout uint64
	// rolloutsGone is the version up to which it is known which DaemonSetRollouts are gone.
	rolloutsGone uint64
	// nodes counts the changes of nodes.
	nodes uint64
}

func newReleases() releases {
	return releases{policies: map[string]*policyEntry{}, rollouts: map[types.NamespacedName]*rolloutEntry{}, under: map[string]bool{}, kinds: newKindStates()}
}

// watchPolicies follows both kinds. The channels close when the first lists are in, or when it is known
// that there is nothing to get.
func (ix *index) watchPolicies(ctx context.Context, all *sync.WaitGroup, from api, log *slog.Logger) map[string]<-chan struct{} {
	lacks := func(resource string) func(bool) {
		return func(denied bool) {
			if ix.lacksKind(resource, denied) {
				log.Warn("the cluster lacks a kind of releases in waves; without it policies are not followed: apply its CustomResourceDefinition", "missing", resource)
			}
		}
	}
	return map[string]<-chan struct{}{
		view.PolicyResource: followIfThere(ctx, all, view.PolicyResource, from.objects.Resource(view.ReleaseResource(view.PolicyResource)), lacks(view.PolicyResource),
			&mirror[*policyEntry]{compact: compactPolicy, upsert: ix.upsertPolicy, remove: ix.removePolicy, replace: ix.replacePolicies}),
		view.RolloutResource: followIfThere(ctx, all, view.RolloutResource, from.objects.Resource(view.ReleaseResource(view.RolloutResource)), lacks(view.RolloutResource),
			&mirror[*rolloutEntry]{compact: compactRollout, upsert: ix.upsertRollout, remove: ix.removeRollout, replace: ix.replaceRollouts}),
	}
}

// followIfThere follows a kind that the cluster may not have: lacks is called each time the kind is found to be
// missing.
func followIfThere[T any](ctx context.Context, all *sync.WaitGroup, name string, from lister[*unstructured.UnstructuredList], lacks func(denied bool), to *mirror[T]) <-chan struct{} {
	known := make(chan struct{})
	once := sync.OnceFunc(func() { close(known) })
	replace := to.replace
	to.replace = func(items []T, version uint64) { replace(items, version); once() }
	to.longest = kindsAgain
	follow(ctx, all, name, mayLack{from, func(denied bool) { lacks(denied); once() }}, &unstructured.Unstructured{}, to)
	return known
}

// learnReleases makes the index as new as the call for policies and the state of releases, beyond what watches
// have delivered. If a cluster has no such kinds, or does not let us read them, the watches find out.
func (e *engine) learnReleases(ctx context.Context) error {
	ix := e.index
	return errors.Join(
		learn(ctx, e.api, view.PolicyResource, compactPolicy, ix.learnPolicies),
		learn(ctx, e.api, view.RolloutResource, compactRollout, ix.learnRollouts))
}

// listTries is how often a list is read again if a watch has overtaken it.
const listTries = 5

// learn reads a list and passes it to take. take refuses a list that is older than what a watch has shown, since
// it cannot distinguish deleted objects from new ones; then the list is read again.
func learn[T any](ctx context.Context, from api, resource string, compact func(any) (T, error), take func([]T, uint64) bool) error {
	for range listTries {
		all, version, err := listObjects(ctx, from, resource, compact)
		switch {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
			return nil
		case err != nil:
			return fmt.Errorf("listing %s: %w", resource, err)
		case take(all, version):
			return nil
		}
	}
	return fmt.Errorf("listing %s: every list was older than what the watch has shown", resource)
}

// listObjects reads a list. version is that of its first page: later pages may be newer, and what was created meanwhile may be
// missing.
func listObjects[T any](ctx context.Context, from api, resource string, compact func(any) (T, error)) (all []T, version uint64, err error) {
	err = from.pages(ctx, resource, func(ctx context.Context, opts metav1.ListOptions) (metav1.ListInterface, error) {
		page, err := from.objects.Resource(view.ReleaseResource(resource)).List(ctx, opts)
		if err != nil {
			return nil, err
		}
		if version == 0 {
			if version, err = parseVersion(page.GetResourceVersion()); err != nil {
				return nil, err
			}
		}
		for i := range page.Items {
			entry, err := compact(&page.Items[i])
			if err != nil {
				return nil, err
			}
			all = append(all, entry)
		}
		return page, nil
	})
	return all, version, err
}

// mayLack is a resource that a cluster may not have, or may not let us read: lacks is then called.
type mayLack struct {
	lister[*unstructured.UnstructuredList]
	lacks func(denied bool)
}

func (m mayLack) List(ctx context.Context, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	l, err := m.lister.List(ctx, opts)
	return l, m.judge(err)
}

func (m mayLack) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := m.lister.Watch(ctx, opts)
	return w, m.judge(err)
}

func (m mayLack) judge(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		m.lacks(apierrors.IsForbidden(err))
	}
	return err
}

func read[T any](obj any, into *T) (version uint64, err error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return 0, unexpected(obj)
	}
	if version, err = versionOf(u); err != nil {
		return 0, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into); err != nil {
		return version, fmt.Errorf("reading %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return version, nil
}

// compactPolicy never fails because of a policy's content: a policy that cannot be read is not followed, and the
// DaemonSets that name it report that.
func compactPolicy(obj any) (*policyEntry, error) {
	var o view.RolloutPolicy
	version, err := read(obj, &o)
	if version == 0 {
		return nil, err
	}
	e := &policyEntry{version: version}
	if err != nil {
		o.Name = obj.(*unstructured.Unstructured).GetName()
		e.policy.Name, e.wrong = o.Name, []string{err.Error()}
		return e, nil
	}
	e.policy, e.wrong = view.Policy(&o)
	if s := o.Spec.DaemonSets; s != nil {
		// A policy that is wrong in other ways, or only excludes labels, holds the DaemonSets that it chooses.
		limits := len(s.Namespaces) > 0 || s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) > 0
		e.chooses = limits && !slices.ContainsFunc(e.wrong, func(said string) bool { return strings.HasPrefix(said, "spec.daemonSets.selector") })
		e.namespaces, e.selector = s.Namespaces, labels.Everything()
		if s.Selector != nil && e.chooses {
			if e.selector, err = metav1.LabelSelectorAsSelector(s.Selector); err != nil {
				return nil, fmt.Errorf("the selector of RolloutPolicy %s, which was read before: %w", o.Name, err)
			}
		}
	}
	return e, nil
}

func compactRollout(obj any) (*rolloutEntry, error) {
	e := &rolloutEntry{object: &view.DaemonSetRollout{}}
	version, err := read(obj, e.object)
	e.version, e.object.ManagedFields = version, nil
	if version != 0 && err != nil {
		// The CRD's schema does not allow this. Its content is read again from the server.
		u := obj.(*unstructured.Unstructured)
		e.object = &view.DaemonSetRollout{ObjectMeta: metav1.ObjectMeta{Namespace: u.GetNamespace(), Name: u.GetName(), ResourceVersion: u.GetResourceVersion()}}
		return e, nil
	}
	return e, err
}

func (ix *index) upsertPolicy(e *policyEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.releases.newestPolicy = max(ix.releases.newestPolicy, e.version)
	if old := ix.releases.policies[e.policy.Name]; old != nil && !outdates(e.version, old.version, 0) {
		return
	}
	ix.releases.policies[e.policy.Name] = e
	ix.touchAll()
}

func (ix *index) removePolicy(e *policyEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.releases.newestPolicy = max(ix.releases.newestPolicy, e.version)
	if old := ix.releases.policies[e.policy.Name]; old != nil && old.version > e.version {
		return // another object of that name, which was read beside the watch
	}
	delete(ix.releases.policies, e.policy.Name)
	ix.touchAll()
}

func (ix *index) replacePolicies(items []*policyEntry, version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.releases.newestPolicy = version
	ix.setPolicies(items, version)
}

// learnPolicies takes a list that was read beside the watch, unless that has shown something newer.
func (ix *index) learnPolicies(items []*policyEntry, version uint64) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if version < ix.releases.newestPolicy {
		return false
	}
	ix.releases.newestPolicy = version
	ix.setPolicies(items, version)
	return true
}

func (ix *index) setPolicies(items []*policyEntry, version uint64) {
	before := ix.releases.policies
	ix.releases.policies = make(map[string]*policyEntry, len(items))
	for _, e := range items {
		ix.releases.policies[e.policy.Name] = e
	}
	for name, e := range before {
		if e.version > version {
			ix.releases.policies[name] = e // a watch has shown more than this list
		}
	}
	ix.releases.served, ix.releases.absent, ix.releases.denied = true, false, false
	ix.releases.kinds.listed(view.PolicyResource)
	ix.touchAll()
}

// touchAll marks every DaemonSet for another decision: policies rarely change.
func (ix *index) touchAll() {
	for key := range ix.sets {
		ix.touch(key)
	}
}

func rolloutKey(e *rolloutEntry) types.NamespacedName {
	return types.NamespacedName{Namespace: e.object.Namespace, Name: e.object.Name}
}

// upsertRollout takes an object from the watch or from an answer. An answer may come after the watch has shown that the
// object is gone: then it stays gone. An object that is there is known by the time when rolloutsGone passes its version.
func (ix *index) upsertRollout(e *rolloutEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.releases.rollouts[rolloutKey(e)] == nil && e.version <= ix.releases.rolloutsGone {
		return
	}
	ix.releases.newestRollout = max(ix.releases.newestRollout, e.version)
	ix.putRollout(e, 0)
}

func (ix *index) putRollout(e *rolloutEntry, list uint64) {
	key := rolloutKey(e)
	if old := ix.releases.rollouts[key]; old != nil && !outdates(e.version, old.version, list) {
		return
	}
	e.asOf = list
	ix.releases.rollouts[key] = e
	ix.touch(key)
}

func (ix *index) removeRollout(e *rolloutEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.releases.newestRollout = max(ix.releases.newestRollout, e.version)
	ix.releases.rolloutsGone = max(ix.releases.rolloutsGone, e.version)
	key := rolloutKey(e)
	if old := ix.releases.rollouts[key]; old != nil && old.object.UID == e.object.UID {
		delete(ix.releases.rollouts, key)
		ix.touch(key)
	}
}

func (ix *index) replaceRollouts(items []*rolloutEntry, version uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.releases.newestRollout = version
	ix.setRollouts(items, version)
}

// learnRollouts is like learnPolicies.
func (ix *index) learnRollouts(items []*rolloutEntry, version uint64) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if version < ix.releases.newestRollout {
		return false
	}
	ix.releases.newestRollout = version
	ix.setRollouts(items, version)
	return true
}

func (ix *index) setRollouts(items []*rolloutEntry, version uint64) {
	ix.releases.kinds.listed(view.RolloutResource)
	ix.releases.rolloutsGone = version
	listed := map[types.NamespacedName]bool{}
	for _, e := range items {
		listed[rolloutKey(e)] = true
		ix.putRollout(e, version)
	}
	for key, e := range ix.releases.rollouts {
		if !listed[key] && e.version <= version {
			delete(ix.releases.rollouts, key)
			ix.touch(key)
		}
	}
}

// forgetRollout drops an object that a live request has shown to be gone. By now there may be another one of its name.
func (ix *index) forgetRollout(gone *rolloutEntry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	key := rolloutKey(gone)
	if e := ix.releases.rollouts[key]; e != nil && e.object.UID == gone.object.UID {
		delete(ix.releases.rollouts, key)
	}
}

// rolloutOf returns the object that holds the state of exactly this DaemonSet's releases; nil if there is none.
func (ix *index) rolloutOf(ds *appsv1.DaemonSet) *rolloutEntry {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if e := ix.releases.rollouts[keyOf(ds)]; e != nil && e.object.IsOf(ds.UID) {
		return e
	}
	return nil
}

// pinned adds the revisions that a release needs, whatever the limit of the history.
func (ix *index) pinned(ds *appsv1.DaemonSet, into map[string]bool) {
	if e := ix.rolloutOf(ds); e != nil && e.object.Status.Stable != "" {
		into[e.object.Status.Stable], into[e.object.Status.Target] = true, true
	}
}

// guidance is which policy a DaemonSet follows.
type guidance struct {
	policy *policyEntry // nil: none that can be followed
	// driven means that a policy is meant for the DaemonSet, and problem why it cannot be followed.
	driven  bool
	problem rollout.Reason
	wrong   []string // in words
	// absent means that the cluster has no such objects, or does not let us read them.
	absent bool
}

// policyOf returns the policy that the DaemonSet names, or else the one that chooses it.
func (ix *index) policyOf(ds *appsv1.DaemonSet) guidance {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	r := &ix.releases
	if name, named := ds.Annotations[view.PolicyAnnotation]; named {
		switch p := r.policies[name]; {
		case r.absent:
			return guidance{driven: true, absent: true, problem: rollout.PolicyUnreadable, wrong: []string{"the cluster has no RolloutPolicies, or does not let the controller read them"}}
		case !r.served:
			return guidance{driven: true, problem: rollout.ViewIncomplete}
		case p == nil:
			return guidance{driven: true, problem: rollout.PolicyGone, wrong: []string{fmt.Sprintf("annotation %s: there is no RolloutPolicy %q", view.PolicyAnnotation, name)}}
		default:
			return p.guide()
		}
	}
	var found []string
	for name, p := range r.policies {
		if p.choose(ds) {
			found = append(found, name)
		}
	}
	if slices.Sort(found); len(found) > 1 { // sorted, so that statuses always have the same text
		return guidance{driven: true, problem: rollout.SeveralPolicies,
			wrong: []string{fmt.Sprintf("the RolloutPolicies %s and %s both choose the DaemonSet; name one in its annotation %s", found[0], found[1], view.PolicyAnnotation)}}
	}
	if len(found) == 1 {
		return r.policies[found[0]].guide()
	}
	if kept := r.rollouts[keyOf(ds)]; r.denied && kept != nil && kept.object.IsOf(ds.UID) && kept.object.Status.Stable != "" {
		// A policy has chosen it before; the policies may not be read now.
		return guidance{driven: true, absent: true, problem: rollout.PolicyUnreadable, wrong: []string{"the controller is no longer allowed to read RolloutPolicies"}}
	}
	return guidance{}
}

// knowsPolicies reports whether the policies are known, so that an absent one does not exist.
func (ix *index) knowsPolicies() bool {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.releases.served && !ix.releases.denied
}

func (p *policyEntry) guide() guidance {
	if len(p.wrong) > 0 {
		return guidance{driven: true, problem: rollout.PolicyUnreadable, wrong: p.wrong}
	}
	return guidance{policy: p, driven: true}
}

func (p *policyEntry) choose(ds *appsv1.DaemonSet) bool {
	if !p.chooses || !p.selector.Matches(labels.Set(ds.Labels)) {
		return false
	}
	return len(p.namespaces) == 0 || slices.Contains(p.namespaces, ds.Namespace)
}

// attend sets whether the DaemonSet looks at a node again after any change of it.
func (ix *index) attend(uid string, is bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if is {
		ix.releases.under[uid] = true
	} else {
		delete(ix.releases.under, uid)
	}
}

// nodeChanges returns the number of changes of nodes.
func (ix *index) nodeChanges() uint64 {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.releases.nodes
}

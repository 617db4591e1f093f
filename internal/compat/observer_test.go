package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"
)

// observer checks the true history of the cluster against what a DaemonSet promises.
// It sees every change of nodes, DaemonSets and pods, one after another, in the
// order in which they happened. It does not rely on a controller, and asks
// Kubernetes' own function which nodes should run a pod.
//
// # I1, at every change of a pod
//
// A node never has two live pods (neither deleted nor ended) of one DaemonSet.
// With maxSurge it has at most two, of different revisions.
//
// # I4, whenever a controller deletes an available pod in a rolling update
//
// Of the nodes that should run a pod, those that are down, including the one that
// this deletion takes down, are at most maxUnavailable. With maxSurge, another pod
// of the node must be available. A pod is available if it is live, ready, and had
// been ready for minReadySeconds when its controller asked for the deletion.
//
// A node is down if it should run a pod and has no available one. I4 is about what
// the controllers have watched, and the test stalls watches. So losses that a
// controller may not know of do not count yet: a node that has joined or got its
// label counts once a controller has created a pod there, and a node whose pod the
// test has deleted counts once a controller has created the next one. That is
// exact: a controller that creates a pod knows that the node has none, and a
// controller that starts after a kill reads everything again. Losses that
// controllers cause count at once. Some deletions are not judged, because they are
// not part of a rolling update: those of pods whose node should not have run them
// at some time in the pod's life (they are evicted then, or the node was gone), and
// those that the test asks for.
type observer struct {
	// asked returns when a controller asked for the deletion of the pod of that
	// name.
	asked func(pod string) time.Time
	// kept returns when a controller's request to delete the pod of that name last
	// failed; zero: never.
	kept func(pod string) time.Time

	mu      sync.Mutex
	now     int64 // the revision that it has reached
	sets    map[types.UID]*appsv1.DaemonSet
	nodes   map[string]*corev1.Node
	pods    map[string]*watchedPod           // by name
	here    map[place]map[string]*watchedPod // the same pods, by place
	sites   map[place]*site
	byHand  map[types.UID]bool // pods that the test deletes
	company company
	history []line
	found   findings
}

// company is which controllers work at the same time, and so what can be asked of
// one.
type company int

const (
	// alone: only one controller works. All of the above holds.
	alone company = iota
	// agreeing: several controllers work, which have all read the same templates, and
	// nobody edits those. A controller cannot know which pods another has just created
	// on nodes that have joined, so only nodes that an update has taken down count.
	// All controllers together keep these within the budget. Such a node only moves
	// on, from the old pod to none to the new pod. Each controller goes through the
	// nodes by name. A request that is out of date meets a pod that is gone (deletes
	// name the UID) or a name that exists. So of two nodes the later one by name is
	// taken down only by a controller that counts the earlier one as going, too,
	// however late its view is. There are never two pods either: two pods for one node
	// would have the same name.
	//
	// A node whose pod could not be deleted is passed over, and takes up no room in
	// the budget meanwhile. Then one controller may take down the next node in order
	// while another takes down the first. That is counted, and a lease prevents it.
	agreeing
	// disagreeing: templates are edited while several controllers work. Without surge
	// there are still no two pods, because names do not depend on the revision. But
	// each controller creates pods of the template that it knows, and keeps to the
	// budget only for itself. It asks the server for the template first, but a second
	// may pass between the answer and the deletion. So more nodes may be down, and with
	// surge a node may have more pods. They are counted, and must be gone at the end.
	// A lease prevents them.
	disagreeing
)

func (c company) String() string {
	return [...]string{"one at a time", "two at once", "two that disagree"}[c]
}

// place is a DaemonSet on a node.
type place struct {
	set  types.UID
	node string
}

// site is what is known of a place, besides its pods.
type site struct {
	wanted  bool      // whether the node should run a pod
	known   time.Time // when a controller has last created a pod since then; zero: none has
	lost    bool      // whether the test has deleted the last available pod since then
	rolled  bool      // whether an update has deleted the last available pod
	passed  bool      // whether a controller has passed over this node before that
	doubled bool      // whether it has too many pods
}

type watchedPod struct {
	*corev1.Pod
	place
	evicted bool // whether its node should not have run it at some time
}

// findings are the violations that were seen.
type findings struct {
	doubles, breaches [disagreeing + 1]int
	wrong             []string // the first few violations
	more              int      // how many more there were
}

type line struct {
	place
	text string
}

// change is one change of one object, in the order of revisions.
type change struct {
	revision int64
	obj      metav1.Object // if it was deleted, its last known state
	gone     bool
}

func newObserver() *observer {
	return &observer{
		asked: func(string) time.Time { return time.Now() },
		kept:  func(string) time.Time { return time.Time{} },
		sets:  map[types.UID]*appsv1.DaemonSet{}, nodes: map[string]*corev1.Node{}, pods: map[string]*watchedPod{},
		here: map[place]map[string]*watchedPod{}, sites: map[place]*site{}, byHand: map[types.UID]bool{},
	}
}

// with sets which controllers work from now on.
func (o *observer) with(c company) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.company = c
}

// spare announces that the test will delete a pod.
func (o *observer) spare(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byHand[uid] = true
}

// note adds a line to the history.
func (o *observer) note(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.record(place{}, text)
}

func (o *observer) record(at place, text string) {
	const most = 20_000
	if len(o.history) >= most {
		o.history = slices.Clone(o.history[most/2:])
	}
	o.history = append(o.history, line{at, time.Now().Format("04:05.000 ") + text})
}

// see handles the next change.
func (o *observer) see(c change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch obj := c.obj.(type) {
	case *appsv1.DaemonSet:
		o.seeSet(obj, c.gone)
	case *corev1.Node:
		o.seeNode(obj, c.gone)
	case *corev1.Pod:
		o.seePod(obj, c)
	}
	o.now = max(o.now, c.revision)
}

func (o *observer) seeSet(ds *appsv1.DaemonSet, gone bool) {
	if gone {
		delete(o.sets, ds.UID)
		return
	}
	if old := o.sets[ds.UID]; old == nil || old.Generation != ds.Generation {
		o.record(place{set: ds.UID}, fmt.Sprintf("DaemonSet %s has generation %d, image %s", ds.Name, ds.Generation, ds.Spec.Template.Spec.Containers[0].Image))
	}
	o.sets[ds.UID] = ds
	for name := range o.nodes {
		o.judgePlace(ds, name)
	}
}

func (o *observer) seeNode(n *corev1.Node, gone bool) {
	if gone {
		delete(o.nodes, n.Name)
	} else {
		o.nodes[n.Name] = n
	}
	for _, ds := range o.sets {
		o.judgePlace(ds, n.Name)
	}
}

// judgePlace updates whether a node should run a pod.
func (o *observer) judgePlace(ds *appsv1.DaemonSet, node string) {
	at := place{ds.UID, node}
	s, n := o.site(at), o.nodes[node]
	was := s.wanted
	s.wanted = false
	if n != nil {
		s.wanted, _ = daemon.NodeShouldRunDaemonPod(klog.Background(), n, ds)
	}
	if was != s.wanted {
		o.record(at, fmt.Sprintf("node %s should run a pod of %s: %v", node, ds.Name, s.wanted))
	}
	if s.wanted {
		return
	}
	*s = site{doubled: s.doubled}
	for _, p := range o.here[at] {
		p.evicted = true
	}
}

func (o *observer) site(at place) *site {
	s := o.sites[at]
	if s == nil {
		s = &site{}
		o.sites[at] = s
	}
	return s
}

func (o *observer) seePod(pod *corev1.Pod, c change) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return
	}
	old := o.pods[pod.Name]
	p := &watchedPod{Pod: pod, place: place{ref.UID, target(pod)}}
	s := o.site(p.place)
	o.record(p.place, sighted(c.revision, p, c.gone))
	switch {
	case old == nil && c.gone:
		return
	case old == nil:
		p.evicted = !s.wanted
		if s.wanted {
			s.known, s.lost = time.Now(), false
		}
	default:
		p.evicted = old.evicted
	}
	if ends := c.gone || pod.DeletionTimestamp != nil; ends && old != nil && isLive(old.Pod) {
		o.judgeDelete(old, s)
	}
	o.keep(old, p, c.gone)
	if s.rolled && o.sets[ref.UID] != nil && o.serves(p.place, "", time.Now()) {
		s.rolled = false
	}
	o.judgeDouble(p.place, s)
}

// keep stores the new state of a pod, or removes it.
func (o *observer) keep(old, p *watchedPod, gone bool) {
	if old != nil {
		delete(o.here[old.place], p.Name)
	}
	if gone {
		delete(o.pods, p.Name)
		return
	}
	o.pods[p.Name] = p
	if o.here[p.place] == nil {
		o.here[p.place] = map[string]*watchedPod{}
	}
	o.here[p.place][p.Name] = p
}

// isLive reports whether a pod runs or will run.
func isLive(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded
}

// isAvailable reports whether a pod is live and has been ready for long enough.
func isAvailable(p *corev1.Pod, minReady int32, now time.Time) bool {
	return isLive(p) && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue &&
			(minReady == 0 || !c.LastTransitionTime.Add(time.Duration(minReady)*time.Second).After(now))
	})
}

// serves reports whether a place has an available pod other than the one named
// but.
func (o *observer) serves(at place, but string, now time.Time) bool {
	for name, p := range o.here[at] {
		if name != but && isAvailable(p.Pod, o.sets[at.set].Spec.MinReadySeconds, now) {
			return true
		}
	}
	return false
}

// judgeDelete judges the deletion of a live pod (I4).
func (o *observer) judgeDelete(p *watchedPod, s *site) {
	ds := o.sets[p.set]
	if ds == nil {
		return
	}
	now := o.asked(p.Name)
	if now.Before(p.CreationTimestamp.Time) {
		now = time.Now() // the request was for another pod of this name
	}
	another := o.serves(p.place, p.Name, now)
	if o.byHand[p.UID] {
		s.lost = s.lost || !another
		return
	}
	if ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || p.evicted || another ||
		!isAvailable(p.Pod, ds.Spec.MinReadySeconds, now) {
		return
	}
	if surges(ds) {
		o.breach(p, true, fmt.Sprintf("%s is deleted while no other pod of %s is available", p.Name, p.node))
		return
	}
	s.passed = o.kept(p.Name).After(p.CreationTimestamp.Time)
	down, wanted, inOrder := []string{p.node}, 0, !s.passed
	for at, other := range o.sites {
		if at.set != p.set || !other.wanted {
			continue
		}
		wanted++
		if at.node != p.node && o.counts(other, now) && !o.serves(at, "", now) {
			down = append(down, at.node)
			inOrder = inOrder && !other.passed
		}
	}
	s.rolled = true
	if most := budget(ds, wanted); len(down) > most {
		slices.Sort(down[1:])
		o.breach(p, inOrder, fmt.Sprintf("%s is deleted on %s, which makes %d nodes down of at most %d: %s", p.Name, p.node, len(down), most, strings.Join(down, " ")))
	}
}

// counts reports whether a controller that decided at that time must count the
// place as down, if no pod is available there.
func (o *observer) counts(s *site, decided time.Time) bool {
	// A request may be sent a little after the decision.
	const slack = 100 * time.Millisecond
	known := !s.known.IsZero() && !s.lost && s.known.Add(slack).Before(decided)
	return s.rolled || known && o.company == alone
}

func surges(ds *appsv1.DaemonSet) bool {
	u := ds.Spec.UpdateStrategy.RollingUpdate
	return u != nil && u.MaxSurge != nil && *u.MaxSurge != intstr.FromInt32(0) && *u.MaxSurge != intstr.FromString("0%")
}

// budget is maxUnavailable for that many nodes.
func budget(ds *appsv1.DaemonSet, nodes int) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, nodes, true)
	if err != nil {
		return 0 // the API server does not admit such a value
	}
	return n
}

// judgeDouble counts the live pods of a place (I1). A violation counts once,
// however long it lasts.
func (o *observer) judgeDouble(at place, s *site) {
	ds := o.sets[at.set]
	if ds == nil {
		return
	}
	var names []string
	hashes, twins := map[string]bool{}, false
	for name, p := range o.here[at] {
		if !isLive(p.Pod) {
			continue
		}
		hash := p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
		twins = twins || hashes[hash]
		hashes[hash] = true
		names = append(names, name)
	}
	most := 1
	if surges(ds) {
		most = 2
	}
	was := s.doubled
	s.doubled = twins || len(names) > most
	if !s.doubled || was {
		return
	}
	o.found.doubles[o.company]++
	slices.Sort(names)
	o.wrong(at, !surges(ds), fmt.Sprintf("I1: %s has %s at once on %s", ds.Name, strings.Join(names, " and "), at.node))
}

// breach counts a breach of the budget. inOrder means that none of the nodes that
// are down was passed over: see agreeing.
func (o *observer) breach(p *watchedPod, inOrder bool, text string) {
	o.found.breaches[o.company]++
	if inOrder || o.company != agreeing {
		o.wrong(p.place, false, "I4: "+text)
	}
}

// wrong records a violation with the history before it. If controllers disagree,
// only violations that must never happen (never) are recorded.
func (o *observer) wrong(at place, never bool, text string) {
	text += " (" + o.company.String() + ")"
	o.record(at, text)
	if o.company == disagreeing && !never {
		return
	}
	if len(o.found.wrong) >= 3 {
		o.found.more++
		return
	}
	const most = 60
	var lines []string
	for _, l := range slices.Backward(o.history) {
		if l.set == "" || l.set == at.set {
			lines = append(lines, "\t"+l.text)
		}
		if len(lines) == most {
			break
		}
	}
	slices.Reverse(lines)
	o.found.wrong = append(o.found.wrong, text+"\n"+strings.Join(lines, "\n"))
}

// results returns the findings so far.
func (o *observer) results() findings {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.found
	f.wrong = slices.Clone(f.wrong)
	return f
}

// reached waits until the observer has seen that revision.
func (o *observer) reached(ctx context.Context, revision int64) error {
	return poll(ctx, patience, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.now >= revision
	})
}

func sighted(revision int64, p *watchedPod, gone bool) string {
	state := string(p.Status.Phase)
	if isReady(p.Pod) {
		state = "ready"
	}
	switch {
	case gone:
		state = "gone"
	case p.DeletionTimestamp != nil:
		state = "terminating"
	}
	return fmt.Sprintf("@%d %s on %s, %s: %s", revision, p.Name, p.node, p.Spec.Containers[0].Image, state)
}

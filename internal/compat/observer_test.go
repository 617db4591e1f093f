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

// observer holds the true history of the cluster to what a DaemonSet promises.
// It sees every change of nodes, DaemonSets and pods, one after another, in the
// order in which they happened. Nothing that it needs comes from a controller,
// and who should run a pod it asks of Kubernetes' own function.
//
// # I1, at every change of a pod
//
// A node never has two live pods (neither deleted nor ended) of one DaemonSet.
// With maxSurge it has at most two, and those of different revisions.
//
// # I4, whenever a controller deletes an available pod of a rolling update
//
// Of the nodes that should run a pod, those that are down, plus the one that
// goes down now, are at most maxUnavailable. With maxSurge, another pod of that
// node must be available. Available is a pod that is live, ready, and has been
// for minReadySeconds when its controller asked for the deletion, not later.
//
// Down is a node that should run a pod and has no available one. What the
// controllers cannot have known is left out: I4 is about what they have
// watched, and the test stalls watches. So a node that has joined, or has got
// its label, counts from when a controller has made a pod there; one whose pod
// the test has deleted, from when a controller has made the next. That is
// exact: who makes a pod knows that its node is without, and who comes after a
// kill reads everything again. Losses that controllers bring about count at
// once. A deletion is not judged when the node was not to run the pod at any
// moment of the pod's life (it is evicted then, or its node was gone), or when
// the test asked for it: neither is a rolling update.
type observer struct {
	// asked says when a controller asked for the end of the pod of that name.
	asked func(pod string) time.Time
	// kept says when a controller's request to delete the pod of that name last
	// failed. Never: zero.
	kept func(pod string) time.Time

	mu      sync.Mutex
	now     int64 // the revision that has been reached
	sets    map[types.UID]*appsv1.DaemonSet
	nodes   map[string]*corev1.Node
	pods    map[string]*watchedPod           // by name
	here    map[place]map[string]*watchedPod // the same, by place
	sites   map[place]*site
	byHand  map[types.UID]bool // pods that the test deletes
	company company
	history []line
	found   findings
}

// company is who else is at work beside a controller, and so what can be asked
// of it.
type company int

const (
	// alone: nobody else is. All of the above holds.
	alone company = iota
	// agreeing: others are, all of which have read the same templates, and
	// nobody edits them. Nobody can know what pods another has just made on
	// nodes that have joined, so only the nodes count that an update has taken
	// down. For all controllers together these are within the budget: such a
	// node only moves on, from old pod to none to new pod; each goes through the
	// nodes by name; and what is out of date meets a pod that is gone (deletes
	// name the UID) or a name that is taken. So of two nodes the later in name
	// order goes down only by one who counts the earlier as going, too, however
	// late its view is. Nor are there ever two pods: the names of two for one
	// node are the same.
	//
	// A node whose pod could not be deleted is passed over: what is put off holds
	// no room. The next node in order then goes down by one controller while the
	// first does by another. That is counted, and a lease prevents it.
	agreeing
	// disagreeing: templates are edited while there are others. Without surge
	// there are still no two pods: names say nothing of the revision. Each makes
	// pods of the template that it knows, though, and keeps to the budget for
	// itself. It asks the server for the template first, but a second may pass
	// between the answer and the deletion: more nodes down, and with surge more
	// pods on a node, are possible. They are counted, and must be gone in the
	// end. A lease prevents them.
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
	wanted  bool      // the node should run a pod
	known   time.Time // when a controller has last made one since; zero: it has not
	lost    bool      // the test has deleted the last available one since
	rolled  bool      // an update has deleted the last available one
	passed  bool      // a controller has passed this node over before that
	doubled bool      // it has too many pods
}

type watchedPod struct {
	*corev1.Pod
	place
	evicted bool // its node should not have run it at some moment
}

// findings is what was seen to be wrong.
type findings struct {
	doubles, breaches [disagreeing + 1]int
	wrong             []string // what must not be; the first few
	more              int      // and how many more
}

type line struct {
	place
	text string
}

// change is one change of one object, in the order of revisions.
type change struct {
	revision int64
	obj      metav1.Object // the last that was known of it when it is gone
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

// with says who is at work from now on.
func (o *observer) with(c company) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.company = c
}

// spare announces that the test deletes a pod.
func (o *observer) spare(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byHand[uid] = true
}

// note puts a line into the history.
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

// see takes the next change.
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

// judgePlace sees whether a node should run a pod.
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

// keep puts a pod in the place of what was known of it.
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

// isLive reports whether a pod runs, or will.
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

// serves reports whether a place has an available pod other than this one.
func (o *observer) serves(at place, but string, now time.Time) bool {
	for name, p := range o.here[at] {
		if name != but && isAvailable(p.Pod, o.sets[at.set].Spec.MinReadySeconds, now) {
			return true
		}
	}
	return false
}

// judgeDelete looks at the deletion of a live pod (I4).
func (o *observer) judgeDelete(p *watchedPod, s *site) {
	ds := o.sets[p.set]
	if ds == nil {
		return
	}
	now := o.asked(p.Name)
	if now.Before(p.CreationTimestamp.Time) {
		now = time.Now() // that was another pod of this name
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

// counts reports whether a controller which decided then has to count the place as
// down, if nothing is available there.
func (o *observer) counts(s *site, decided time.Time) bool {
	// A request may leave a little after the decision.
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
		return 0 // the API server admits no such thing
	}
	return n
}

// judgeDouble counts the live pods of a place (I1). A double counts once,
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

// breach counts a budget that was not kept. inOrder says that no node of those
// that are down was passed over: see agreeing.
func (o *observer) breach(p *watchedPod, inOrder bool, text string) {
	o.found.breaches[o.company]++
	if inOrder || o.company != agreeing {
		o.wrong(p.place, false, "I4: "+text)
	}
}

// wrong keeps a violation with what led to it. Controllers that
// disagree must answer only for what must never be.
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

// results returns what was found so far.
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

package sim

import (
	"slices"
	"strconv"
	"time"

	"everynode/internal/plan"
)

// Objects of the API are immutable: a write replaces the old object with a new one. So watches, controllers
// and the checker can all keep references to them.

// pod is a pod as the API holds it.
type pod struct {
	plan.Pod
	version uint64
	made    *write // the write that made it
	nodeUID string // the node that it is bound to
	renamed bool   // someone else has changed its revision
	doomed  int    // the process whose delete marked it; 0: nobody, or someone else
	heir    bool   // its predecessor, which is gone, was deleted before the node's trouble began
	// These are what is true, not what is written: the versions in which it was created and its deletion was
	// requested, and since when it is ready.
	createdIn, deletedIn uint64
	readyAt              time.Duration
	lastReady            struct {
		stamp time.Time
		at    time.Duration
	}
	readyStamp time.Time // when it became ready the last time, as the kubelet has written it
	changing
}

// node is a node as the API holds it, together with the machine behind it.
type node struct {
	plan.Node
	version uint64
	// turned is the version in which it was no longer Ready; wasReady means that it has been Ready at some
	// time. Both are what is true, not what is written.
	turned   uint64
	wasReady bool
	joined   time.Time // as the API shows it
	alive    bool      // its kubelet runs
	full     bool      // its kubelet refuses pods, and the scheduler sees why
	misfit   bool      // its kubelet refuses pods, and the scheduler does not see why
	forbids  bool      // its kubelet refuses pods permanently: they fail
	cordon   bool
}

// daemonSet is the DaemonSet as the API holds it.
type daemonSet struct {
	spec       plan.Spec // its Hash is the current revision
	uid        string
	generation int64
	observed   int64
	status     plan.Status
	version    uint64
}

// code is the verdict of the API about a request.
type code uint8

const (
	ok code = iota
	exists
	notFound
	conflict
	throttled
	overQuota
	terminating
	refused
	unknown // for the client: no answer came
)

// answer is what a request returns.
type answer struct {
	code   code
	pod    *pod          // of a delete that removed its pod: the pod as it was
	gone   bool          // the delete removed it
	wait   time.Duration // with throttled: how long the server asks the client to wait; 0: it does not say
	set    *daemonSet
	node   *node // nil: there is none
	keeper *keeper
}

// api is the API server and its store.
type api struct {
	w       *world
	version uint64
	uids    int
	set     *daemonSet
	policy  *policy // nil: there is none
	keeper  *keeper // nil: it does not exist yet
	nodes   []*node // by name
	pods    []*pod  // by age
	logs    [resources][]event
	streams []*stream

	quota       int // how many pods there may be; -1: no limit
	banned      map[string]bool
	choked      map[string]bool // nodes for whose pods admission answers 429
	unscheduled bool            // the scheduler stands still
	guarded     map[string]bool // nodes whose pods may not be deleted
	left        map[string]bool // nodes that have turned not Ready after the deletion of a pod that is gone by now
	terminating bool
}

func newAPI(w *world) *api {
	return &api{w: w, quota: -1, banned: map[string]bool{}, choked: map[string]bool{}, guarded: map[string]bool{}, left: map[string]bool{}}
}

func (a *api) next() uint64 {
	a.version++
	return a.version
}

func (a *api) uid(kind string) string {
	a.uids++
	return kind + strconv.Itoa(a.uids)
}

func (a *api) node(name string) *node {
	for _, n := range a.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (a *api) pod(uid string) *pod {
	for _, p := range a.pods {
		if p.UID == uid {
			return p
		}
	}
	return nil
}

func (a *api) podNamed(name string) *pod {
	for _, p := range a.pods {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// on calls do for each pod of the node, bound or meant for it. do may write.
func (a *api) on(node string, do func(*pod)) {
	for _, p := range slices.Clone(a.pods) {
		if p.Node == node {
			do(p)
		}
	}
}

// putNode applies change to the node, or to a new one, and stores it.
func (a *api) putNode(name string, change func(*node)) {
	n := node{}
	i := slices.IndexFunc(a.nodes, func(o *node) bool { return o.Name == name })
	if i >= 0 {
		n = *a.nodes[i]
	} else {
		n.Name, n.UID, n.joined = name, a.uid("node"), a.w.stampOf("api")
	}
	wasReady := n.Ready
	change(&n)
	n.version = a.next()
	if !n.Ready && (wasReady || i < 0) {
		n.turned = n.version
	}
	n.wasReady = n.wasReady || n.Ready
	if i >= 0 {
		a.nodes[i] = &n
	} else {
		a.nodes = append(a.nodes, &n)
	}
	a.log(nodes, event{node: &n})
}

func (a *api) removeNode(name string) {
	i := slices.IndexFunc(a.nodes, func(o *node) bool { return o.Name == name })
	n := *a.nodes[i]
	a.nodes = slices.Delete(a.nodes, i, i+1)
	n.version = a.next()
	a.log(nodes, event{node: &n, gone: true})
}

func (a *api) putSet(change func(*daemonSet)) *daemonSet {
	s := *a.set
	change(&s)
	s.version = a.next()
	a.set = &s
	a.log(sets, event{set: &s})
	return &s
}

// putPod applies change to the pod, and stores it.
func (a *api) putPod(p *pod, change func(*pod)) *pod {
	q := *p
	change(&q)
	q.judged(a.w)
	q.version = a.next()
	if p.Deleted.IsZero() && !q.Deleted.IsZero() {
		q.deletedIn = q.version
	}
	a.pods[slices.Index(a.pods, p)] = &q
	a.log(pods, event{pod: &q})
	a.w.kubelets.saw(&q)
	return &q
}

func (a *api) removePod(p *pod) {
	a.w.tracef("api      %s is gone", p.Name)
	if n := a.node(p.Node); n != nil && !n.Ready && p.deletedIn != 0 && p.deletedIn < n.turned {
		if i := newestBeside(a.pods, p); i >= 0 {
			heir := *a.pods[i]
			heir.heir, a.pods[i] = true, &heir
		} else {
			a.left[p.Node] = true
		}
	}
	a.pods = slices.DeleteFunc(a.pods, func(o *pod) bool { return o.UID == p.UID })
	q := *p
	q.version = a.next()
	a.log(pods, event{pod: &q, gone: true})
}

// create creates the pod of a write under a name.
func (a *api) create(w *write, name string) answer {
	n := a.node(w.create.Node)
	switch {
	case a.terminating:
		return answer{code: terminating}
	case a.podNamed(name) != nil:
		return answer{code: exists}
	case a.banned[w.create.Node]:
		return answer{code: refused}
	case a.choked[w.create.Node]:
		return answer{code: throttled}
	case a.quota >= 0 && len(a.pods) >= a.quota:
		return answer{code: overQuota}
	}
	p := &pod{made: w, Pod: plan.Pod{Name: name, UID: a.uid("pod"), Node: w.create.Node, Hash: w.hash, Generation: w.generation(),
		Bound: !w.create.ByScheduler, Created: a.w.stampOf("api")}}
	if n == nil {
		a.w.kubelets.collect(p.Node)
	} else if p.Bound {
		p.nodeUID = n.UID
	}
	if p.heir = a.left[p.Node]; a.w.sc.InPlace {
		p.asks, p.unfit = w.hash, a.w.chance(unfitPods)
	}
	delete(a.left, p.Node)
	a.w.tracef("api      %s is created on %s", name, p.Node)
	a.w.check.creating(p)
	a.w.check.exposing(w)
	p.version = a.next()
	p.createdIn = p.version
	a.pods = append(a.pods, p)
	a.log(pods, event{pod: p})
	a.w.kubelets.saw(p)
	return answer{pod: p}
}

// delete deletes the pod of a write, if the pod still is what the write expects.
func (a *api) delete(w *write) answer {
	p := a.podNamed(w.remove.Pod)
	switch {
	case p == nil:
		return answer{code: notFound}
	case p.UID != w.remove.UID, w.version != 0 && p.version != w.version:
		return answer{code: conflict}
	case a.guarded[p.Node]:
		return answer{code: refused}
	case a.choked[p.Node]:
		return answer{code: throttled}
	}
	a.w.check.deleting(p, w)
	a.w.check.exposing(w)
	return a.mark(p, w.remove.Now, w.owner.process)
}

// mark starts the termination of a pod, for a controller's process or for someone else (0). The pod is
// removed at once if no kubelet needs to be asked.
func (a *api) mark(p *pod, force bool, process int) answer {
	if p.Deleted.IsZero() || force && !p.Forced {
		a.w.tracef("api      %s is deleted%s", p.Name, map[bool]string{true: " by force"}[force])
	}
	force = force || !p.Bound || p.Phase == plan.Failed || p.Phase == plan.Succeeded
	if force && !a.w.sc.Finalizers {
		a.removePod(p)
		return answer{pod: p, gone: true}
	}
	if !p.Deleted.IsZero() && (!force || p.Forced) {
		return answer{pod: p}
	}
	p = a.putPod(p, func(p *pod) {
		if p.Deleted.IsZero() {
			p.Deleted, p.doomed = a.w.stampOf("api"), process
		}
		p.Forced = force
	})
	if force { // only a finalizer holds it
		uid := p.UID
		a.w.after(a.w.between(0, 5e9), func() {
			if p := a.pod(uid); p != nil {
				a.removePod(p)
			}
		})
	}
	return answer{pod: p}
}

// writeStatus replaces the status if the DaemonSet still has that version.
func (a *api) writeStatus(status plan.Status, observed int64, version uint64) answer {
	if a.set.version != version {
		return answer{code: conflict}
	}
	return answer{set: a.putSet(func(s *daemonSet) { s.status, s.observed = status, observed })}
}

// get reads a pod.
func (a *api) get(name string) answer {
	if p := a.podNamed(name); p != nil {
		return answer{pod: p}
	}
	return answer{code: notFound}
}

// getNode reads a node.
func (a *api) getNode(name string) answer {
	return answer{node: a.node(name)}
}

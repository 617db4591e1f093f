package compat

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"
)

// frame is what is compared after a step.
type frame struct {
	picture
	writes tally // by the controller, and by the pod garbage collector for it
}

// TestDifferential runs generated scenarios with both controllers. After every step,
// at rest, the pods, the status and the revisions must be the same, and ours must
// not have written more pods or revisions. How many status writes there are depends
// on the timing of events, so only the total number of writes of all scenarios is
// compared.
//
// EVERYNODE_SEED runs only the scenario with this seed.
func TestDifferential(t *testing.T) {
	count, steps := 4, 6
	first := uint64(1) // always the same: whether a change is good must not depend on luck
	if os.Getenv("EVERYNODE_LONG") != "" {
		count, steps, first = 24, 10, uint64(time.Now().UnixNano())%1_000_000
	}
	if s := os.Getenv("EVERYNODE_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal("EVERYNODE_SEED: ", err)
		}
		first, count = seed, 1
	}
	up, our := tally{}, tally{}
	deadline, limited := t.Deadline()
	for i := range uint64(count) {
		if limited && time.Until(deadline) < 5*time.Minute {
			t.Logf("stopped after %d scenarios of %d: the other tests need the time that is left; -timeout gives more", i, count)
			break
		}
		t.Run(fmt.Sprintf("seed=%d", first+i), func(t *testing.T) {
			u, o := compare(t, write(first+i, steps))
			up.add(u)
			our.add(o)
		})
	}
	t.Logf("upstream wrote %d: %s", up.total(), up)
	t.Logf("we wrote       %d: %s", our.total(), our)
	if our.total() > up.total() {
		t.Errorf("we wrote %d times, upstream %d times", our.total(), up.total())
	}
}

// TestStatusWrites: creating and updating a DaemonSet costs no more status writes
// than upstream's, whether the set is small or large.
func TestStatusWrites(t *testing.T) {
	for _, nodes := range []int{3, 40} {
		t.Run(fmt.Sprintf("nodes=%d", nodes), func(t *testing.T) {
			wrote := map[string]tally{}
			both(t, func(t *testing.T, l *lab, c controller) {
				r := l.begin(c, agent(rolling(max(1, nodes/10), 0)), names(nodes)...)
				l.edit(image("agent:2"))
				l.until("the update is done", func() bool { return l.everywhere("agent:2") })
				l.rest()
				wrote[c.name] = r.tally()
				t.Log(wrote[c.name])
			})
			up, our := wrote[upstream.name], wrote[ours.name]
			for _, what := range []string{"pods", "controllerrevisions", "daemonsets/status"} {
				if our.of(what) > up.of(what) {
					t.Errorf("%s: we wrote %d times, upstream %d times", what, our.of(what), up.of(what))
				}
			}
		})
	}
}

func compare(t *testing.T, s scenario) (up, our tally) {
	l := newLab(t)
	theirs := l.play(upstream, s, nil)
	l.empty(t.Context())
	l.rest()
	mine := l.play(ours, s, theirs)
	last := len(theirs) - 1
	return theirs[last].writes, mine[last].writes
}

// play runs a scenario with a controller. If want has frames, it waits after each
// step until the cluster matches the frame, or fails.
func (l *lab) play(c controller, s scenario, want []frame) []frame {
	l.t.Helper()
	l.kubelet.change(brokenStays)
	for i, change := range s.nodes {
		l.addNode(fmt.Sprintf("n%d", i+1), change)
	}
	r := l.start(c)
	defer r.stop()
	var frames []frame
	loose, collected := false, 0
	for i, step := range append([]step{{name: "created", do: func(l *lab) { l.create(s.set.DeepCopy()); l.observed() }}}, s.steps...) {
		r.forget()
		step.do(l)
		l.rest()
		if n := l.collectPods(); n > 0 {
			collected += n
			l.rest()
		}
		if step.node {
			l.nudge(i)
		}
		if c.name == upstream.name && !l.within(3*time.Second, l.plausible) {
			t := l.set().Status
			l.t.Logf("after %q upstream rests with %+v", step.name, t)
		}
		f := frame{l.picture(), r.tally()}
		f.writes["DELETE pods"] += collected
		frames = append(frames, f)
		if os.Getenv("EVERYNODE_SEED") != "" {
			l.t.Logf("%s after %q: %v %s; wrote %s", c.name, step.name, f.Pods, l.counts(), f.writes)
		}
		loose = loose || step.stuck
		if want != nil {
			l.same(s, step, want[i], f, loose)
			l.noMore(s, step, want[i].writes, f.writes)
		}
		if l.t.Failed() {
			l.t.Logf("what %s wrote in this step:\n%s", c.name, r.recall())
			l.t.FailNow()
		}
	}
	return frames
}

// plausible reports whether the status has as many ready nodes as there are. On a
// busy machine upstream may rest for a while before it writes it.
func (l *lab) plausible() bool {
	l.t.Helper()
	ds, ready := l.set(), map[string]bool{}
	for _, p := range l.pods() {
		if isReady(&p) && p.DeletionTimestamp == nil && metav1.IsControlledBy(&p, ds) {
			ready[target(&p)] = true
		}
	}
	n := 0
	for _, node := range l.nodes() {
		if run, _ := daemon.NodeShouldRunDaemonPod(klog.Background(), &node, ds); run && ready[node.Name] {
			n++
		}
	}
	return int(ds.Status.NumberReady) == n
}

// nudge makes a controller look at the DaemonSet, without a change to its
// specification.
func (l *lab) nudge(i int) {
	l.t.Helper()
	l.edit(func(ds *appsv1.DaemonSet) { ds.Labels = map[string]string{"nudge": strconv.Itoa(i)} })
	l.rest()
}

// same fails if ours is not the same as upstream's, and does not become so.
func (l *lab) same(s scenario, step step, want, got frame, loose bool) {
	l.t.Helper()
	diff := ""
	ok := l.within(patience, func() bool {
		if diff = difference(want.picture, got.picture, loose); diff != "" {
			got.picture = l.picture()
		}
		return diff == ""
	})
	if !ok {
		l.t.Errorf("seed %d, after %q (-upstream +ours):\n%s%s", s.seed, step.name, diff, s)
	}
}

// noMore fails if ours has written more pods or revisions than upstream.
func (l *lab) noMore(s scenario, step step, up, our tally) {
	l.t.Helper()
	for _, what := range []string{"pods", "controllerrevisions"} {
		if our.of(what) > up.of(what) {
			l.t.Errorf("seed %d, after %q: more writes to %s than upstream\nupstream: %s\nours:     %s\n%s", s.seed, step.name, what, up, our, s)
		}
	}
}

func (s scenario) String() string {
	text := fmt.Sprintf("scenario: %d nodes, strategy %+v", len(s.nodes), s.set.Spec.UpdateStrategy.Type)
	if r := s.set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		text += fmt.Sprintf(" unavailable %s surge %s", r.MaxUnavailable, r.MaxSurge)
	}
	spec := s.set.Spec.Template.Spec
	text += fmt.Sprintf(", keeps %d\n  selector %v, affinity %v, tolerations %v", *s.set.Spec.RevisionHistoryLimit, spec.NodeSelector, spec.Affinity, spec.Tolerations)
	for _, step := range s.steps {
		text += "\n  " + step.name
	}
	return text
}

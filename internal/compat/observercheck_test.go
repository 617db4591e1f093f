package compat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// story tells the observer a made-up history.
type story struct {
	o        *observer
	revision int64
	pods     map[string]*corev1.Pod
	ds       *appsv1.DaemonSet
}

func newStory(edits ...func(*appsv1.DaemonSet)) *story {
	s := &story{o: newObserver(), pods: map[string]*corev1.Pod{}, ds: agent(edits...)}
	// The controller knows everything that is told.
	s.o.asked = func(string) time.Time { return time.Now().Add(time.Second) }
	s.ds.UID, s.ds.Spec.Template.Spec.NodeSelector = "agent", map[string]string{"run": "yes"}
	s.tell(s.ds, false)
	return s
}

func (s *story) tell(obj metav1.Object, gone bool) {
	s.revision++
	s.o.see(change{s.revision, obj, gone})
}

func (s *story) node(name, run string) {
	s.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"run": run}}}, false)
}

// pod creates a pod, named NODE-REVISION or NODE-REVISION-ANYTHING.
func (s *story) pod(name string) {
	parts := strings.Split(name, "-")
	s.pods[name] = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: parts[1]},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.ds, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}},
		Spec:   corev1.PodSpec{NodeName: parts[0], Containers: []corev1.Container{{Image: "agent:" + parts[1]}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	s.tell(s.pods[name], false)
}

func (s *story) change(name string, do func(*corev1.Pod)) {
	s.pods[name] = s.pods[name].DeepCopy()
	do(s.pods[name])
	s.tell(s.pods[name], false)
}

// ready makes pods ready, since some time ago.
func (s *story) ready(ago time.Duration, names ...string) {
	for _, name := range names {
		s.change(name, func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now().Add(-ago))}}
		})
	}
}

// run creates nodes, and on each a ready pod of the first revision.
func (s *story) run(nodes ...string) {
	for _, n := range nodes {
		s.node(n, "yes")
		s.pod(n + "-1")
		s.ready(time.Minute, n+"-1")
	}
}

func (s *story) terminate(names ...string) {
	for _, name := range names {
		s.change(name, func(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now })
	}
}

// kept records that a request to delete that pod has just failed.
func (s *story) kept(pod string) {
	s.o.kept = func(name string) (at time.Time) {
		if name == pod {
			at = time.Now()
		}
		return at
	}
}

func (s *story) gone(names ...string) {
	for _, name := range names {
		s.tell(s.pods[name], true)
	}
}

func minReady(seconds int32) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = seconds }
}

// told is a story, and what the observer must find.
type told struct {
	name string
	set  []func(*appsv1.DaemonSet)
	tell func(*story)
	want string // doubles, breaches, and how many of these are wrong
}

func (c told) check(t *testing.T) {
	s := newStory(c.set...)
	s.run("a", "b", "c")
	c.tell(s)
	f := s.o.results()
	if got := fmt.Sprint(sum(f.doubles), sum(f.breaches), len(f.wrong)+f.more); got != c.want {
		t.Errorf("found %s, want %s\n%s", got, c.want, strings.Join(f.wrong, "\n"))
	}
}

// TestObserverBudget: the observer sees when an update takes too many nodes
// down, and only then.
func TestObserverBudget(t *testing.T) {
	one, two := rolling(1, 0), rolling(2, 0)
	for _, c := range []told{
		{"a rollout", with(one), func(s *story) {
			for _, n := range []string{"a", "b", "c"} {
				s.terminate(n + "-1")
				s.gone(n + "-1")
				s.pod(n + "-2")
				s.ready(0, n+"-2")
			}
		}, "0 0 0"},
		{"one more is down than may be", with(one), func(s *story) { s.terminate("a-1", "b-1") }, "0 1 1"},
		{"as many as may be", with(two), func(s *story) { s.terminate("a-1", "b-1") }, "0 0 0"},
		{"a pod is deleted by force", with(two), func(s *story) { s.gone("a-1", "b-1", "c-1") }, "0 1 1"},
		{"the successor is not ready yet", with(one), func(s *story) {
			s.gone("a-1")
			s.pod("a-2")
			s.terminate("b-1")
		}, "0 1 1"},
		{"the successor is ready, but not for long enough", with(one, minReady(30)), func(s *story) {
			s.gone("a-1")
			s.pod("a-2")
			s.ready(10*time.Second, "a-2")
			s.terminate("b-1")
		}, "0 1 1"},
		{"the successor is ready for long enough", with(one, minReady(30)), func(s *story) {
			s.gone("a-1")
			s.pod("a-2")
			s.ready(40*time.Second, "a-2")
			s.terminate("b-1")
		}, "0 0 0"},
		{"a node has joined, and has a pod that is not ready", with(one), func(s *story) {
			s.node("d", "yes")
			s.pod("d-2")
			s.terminate("a-1")
		}, "0 1 1"},
		{"a node has joined, and nobody can be shown to know", with(one), func(s *story) {
			s.node("d", "yes")
			s.terminate("a-1")
		}, "0 0 0"},
		{"a node joins when the deletion has been asked for", with(one), func(s *story) {
			before := time.Now()
			s.o.asked = func(string) time.Time { return before }
			s.node("d", "yes")
			s.pod("d-2")
			s.terminate("a-1")
		}, "0 0 0"},
		{"another may have made a pod on a node that joins", with(one), func(s *story) {
			s.o.with(agreeing)
			s.node("d", "yes")
			s.pod("d-2")
			s.terminate("a-1")
		}, "0 0 0"},
		{"two together take down more than may be", with(one), func(s *story) {
			s.o.with(agreeing)
			s.gone("a-1")
			s.pod("a-2")
			s.terminate("b-1")
		}, "0 1 1"},
		{"one of two has passed a node over", with(one), func(s *story) {
			s.o.with(agreeing)
			s.kept("a-1")
			s.terminate("b-1")
			s.terminate("a-1")
		}, "0 1 0"},
		{"the node that was passed over goes first", with(one), func(s *story) {
			s.o.with(agreeing)
			s.kept("a-1")
			s.terminate("a-1")
			s.terminate("b-1")
		}, "0 1 0"},
		{"one alone has passed a node over", with(one), func(s *story) {
			s.kept("a-1")
			s.terminate("b-1")
			s.terminate("a-1")
		}, "0 1 1"},
		{"a node was passed over that is not down", with(one), func(s *story) {
			s.o.with(agreeing)
			s.kept("c-1")
			s.terminate("a-1")
			s.terminate("b-1")
		}, "0 1 1"},
		{"a pod that is not ready is deleted", with(one), func(s *story) {
			s.terminate("a-1")
			s.node("d", "yes")
			s.pod("d-1")
			s.terminate("d-1")
		}, "0 0 0"},
		{"the test deletes pods", with(one), func(s *story) {
			s.o.spare("a-1")
			s.o.spare("b-1")
			s.terminate("a-1", "b-1", "c-1")
		}, "0 0 0"},
		{"the successor of a pod that the test deleted is not ready", with(one), func(s *story) {
			s.o.spare("a-1")
			s.gone("a-1")
			s.pod("a-1-again")
			s.terminate("b-1")
		}, "0 1 1"},
		{"nodes lose their label", with(one), func(s *story) {
			s.node("a", "no")
			s.node("b", "no")
			s.terminate("a-1", "b-1", "c-1")
		}, "0 0 0"},
		{"OnDelete has no budget", with(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }),
			func(s *story) { s.terminate("a-1", "b-1") }, "0 0 0"},
	} {
		t.Run(c.name, c.check)
	}
}

// TestObserverDoubles: the observer sees two pods at once, and with surge pods
// that may not be.
func TestObserverDoubles(t *testing.T) {
	one, surge := rolling(1, 0), rolling(0, 1)
	for _, c := range []told{
		{"two pods at once", with(one), func(s *story) { s.pod("a-2") }, "1 0 1"},
		{"two pods of the same revision", with(one), func(s *story) { s.pod("a-1-again") }, "1 0 1"},
		{"a pod beside one that terminates, and beside one that has failed", with(one), func(s *story) {
			s.terminate("a-1")
			s.pod("a-2")
			s.change("a-2", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
			s.pod("a-2-again")
		}, "0 0 0"},
		{"a double lasts and comes again", with(one), func(s *story) {
			s.pod("a-2")
			s.ready(0, "a-2")
			s.gone("a-2")
			s.pod("a-2")
		}, "2 0 2"},
		{"a surge", with(surge), func(s *story) {
			s.pod("a-2")
			s.ready(0, "a-2")
			s.terminate("a-1")
		}, "0 0 0"},
		{"a surge that does not wait", with(surge), func(s *story) {
			s.pod("a-2")
			s.terminate("a-1")
		}, "0 1 1"},
		{"a surge of three", with(surge), func(s *story) { s.pod("a-2"); s.pod("a-3") }, "1 0 1"},
		{"a surge of the same revision", with(surge), func(s *story) { s.pod("a-1-again") }, "1 0 1"},
		{"two disagree on who goes down", with(one), func(s *story) {
			s.o.with(disagreeing)
			s.terminate("b-1", "c-1")
		}, "0 1 0"},
		{"two disagree, and make a surge of three", with(surge), func(s *story) {
			s.o.with(disagreeing)
			s.pod("a-2")
			s.pod("a-3")
		}, "1 0 0"},
		{"two disagree, and make two pods", with(one), func(s *story) {
			s.o.with(disagreeing)
			s.pod("a-2")
		}, "1 0 1"},
	} {
		t.Run(c.name, c.check)
	}
}

func sum(n [disagreeing + 1]int) (total int) {
	for _, n := range n {
		total += n
	}
	return total
}

func with(edits ...func(*appsv1.DaemonSet)) []func(*appsv1.DaemonSet) { return edits }

// TestEndState: the observer names what is not as it should be at the end.
func TestEndState(t *testing.T) {
	for _, c := range []struct {
		name string
		tell func(*story)
		want string // is part of the text; "": there is no text
	}{
		{"all is well", func(*story) {}, ""},
		{"a pod is missing", func(s *story) { s.gone("a-1") }, "agent has 0 pods on a"},
		{"a pod is not ready", func(s *story) { s.change("b-1", func(p *corev1.Pod) { p.Status.Conditions = nil }) }, "available: false"},
		{"a pod too many", func(s *story) { s.pod("b-1-again") }, "agent has 2 pods on b"},
		{"a pod that terminates", func(s *story) { s.pod("b-1-again"); s.terminate("b-1-again") }, "agent has 2 pods on b"},
		{"a pod of another template", func(s *story) { s.gone("a-1"); s.pod("a-2"); s.ready(0, "a-2") }, "not of agent:1"},
		{"a pod where none should be", func(s *story) { s.node("c", "no"); s.pod("c-1") }, "1 pods are on nodes that should have none"},
		{"a status of before", func(s *story) { s.run("c") }, "the status of agent"},
		{"a generation that was not observed", func(s *story) {
			s.ds = s.ds.DeepCopy()
			s.ds.Generation++
			s.tell(s.ds, false)
		}, "the status of agent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(rolling(1, 0))
			s.run("a", "b")
			s.ds = s.ds.DeepCopy()
			s.ds.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, NumberReady: 2, UpdatedNumberScheduled: 2, NumberAvailable: 2}
			s.tell(s.ds, false)
			c.tell(s)
			if got := s.o.unlike(); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("said %q, want %q", got, c.want)
			}
		})
	}
}

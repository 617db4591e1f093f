package compat

import (
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"everynode/internal/view"
)

func inPlace(ds *appsv1.DaemonSet) {
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[view.UpdateAnnotation] = view.InPlaceIfPossible
}

// only makes the kubelets run containers of only these images. A pod that asks for another image keeps the container
// it has, and reports that it is ready.
func only(images ...string) func(*kubelet) {
	return func(k *kubelet) {
		onlyImages(images...)(k)
		k.runs = func(image string) bool { return slices.Contains(images, image) }
	}
}

// run returns the nodes whose pod really runs a container of the image.
func (l *lab) run(image string) (nodes []string) {
	l.t.Helper()
	for _, p := range l.pods() {
		if s := p.Status.ContainerStatuses; p.DeletionTimestamp == nil && isReady(&p) && len(s) > 0 && s[0].Image == image {
			nodes = append(nodes, target(&p))
		}
	}
	return nodes
}

// stay returns how many of these pods are still there, by UID.
func (l *lab) stay(before map[string]string) (n int) {
	now := l.uids()
	for uid := range before {
		if _, is := now[uid]; is {
			n++
		}
	}
	return n
}

// TestHandoverInPlace moves a cluster from one controller to the other in the middle of an update in place whose new
// image does not start. Kubernetes' controller believes what pods report: it has one node more down than it may, and
// pods that were changed stay changed.
func TestHandoverInPlace(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	start := func(t *testing.T, from controller) (*lab, *running, map[string]string) {
		l := newLab(t)
		l.kubelet.change(only("agent:1"))
		r := l.begin(from, agent(rolling(1, 0), inPlace), nodes...)
		before := l.uids()
		l.edit(image("agent:2"))
		l.until("the update has begun", func() bool {
			return slices.ContainsFunc(l.pods(), func(p corev1.Pod) bool { return p.Spec.Containers[0].Image == "agent:2" })
		})
		l.rest()
		return l, r, before
	}
	end := func(l *lab) {
		l.t.Helper()
		l.kubelet.change(only("agent:1", "agent:2"))
		l.until("the update is done", func() bool { return len(l.run("agent:2")) == len(nodes) })
		l.rest()
		if ds := l.set(); ds.Status.NumberAvailable != 4 || ds.Status.UpdatedNumberScheduled != 4 {
			l.t.Errorf("the status is %+v", ds.Status)
		}
	}
	t.Run("and back", func(t *testing.T) {
		l, r, before := start(t, ours)
		if ds := l.set(); l.stay(before) != 4 || len(l.run("agent:1")) != 4 || ds.Status.NumberAvailable != 3 {
			t.Errorf("of %v %d are left, with %d available", before, l.stay(before), ds.Status.NumberAvailable)
		}
		r.stop()
		r = l.start(upstream)
		l.until("it takes the changed pod for available, and goes on", func() bool { return len(l.run("agent:1")) == 3 })
		l.rest()
		if l.stay(before) != 3 {
			t.Errorf("of %v there are %v", before, l.uids())
		}
		end(l)
		if l.stay(before) != 1 {
			t.Errorf("of %v there are %v: all but the changed one were to be made again", before, l.uids())
		}
		r.stop()
		done := l.uids()
		r = l.start(ours)
		l.rest()
		if wrote := r.tally(); wrote.total() != 0 || !maps.Equal(done, l.uids()) {
			t.Errorf("at rest it has written: %s", wrote)
		}
	})
	t.Run("and back, and to ours again in the middle", func(t *testing.T) {
		l, r, before := start(t, ours)
		r.stop()
		r = l.start(upstream)
		l.until("it takes the changed pod for available, and goes on", func() bool { return len(l.run("agent:1")) == 3 })
		l.rest()
		r.stop()
		half := l.uids()
		judge := l.judge()
		l.start(ours)
		l.rest()
		if ds := l.set(); !maps.Equal(half, l.uids()) || ds.Status.NumberAvailable != 2 {
			t.Errorf("there are %v, before %v, with %d available", l.uids(), half, ds.Status.NumberAvailable)
		}
		end(l)
		judge(ours)
		if l.stay(before) != 3 {
			t.Errorf("of %v there are %v: all but one were to stay", before, l.uids())
		}
	})
	t.Run("to ours", func(t *testing.T) {
		l, r, before := start(t, upstream)
		r.stop()
		half := l.uids()
		judge := l.judge()
		l.start(ours)
		l.rest()
		if !maps.Equal(half, l.uids()) || l.stay(before) != 3 {
			t.Errorf("there are %v, before %v", l.uids(), half)
		}
		end(l)
		judge(ours)
		if l.stay(before) != 3 || !maps.Equal(images(nodes, "agent:2"), l.images()) {
			t.Errorf("of %v there are %v", before, l.uids())
		}
	})
}

func images(nodes []string, image string) map[string]string {
	all := map[string]string{}
	for _, n := range nodes {
		all[n] = image
	}
	return all
}

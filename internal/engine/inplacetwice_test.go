package engine

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Updates that come faster than kubelets work: what those finish for one of them does not count for the next.
func TestUpdatesInQuickSuccession(t *testing.T) {
	for name, c := range map[string]struct{ probed, lies, same bool }{
		"with a readiness probe": {true, false, false},
		"without a probe":        {false, false, false},
		"with a startup probe":   {true, true, false},
		"of the same content":    {false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			inPlaceCluster(t, 5, func(k *keepers) {
				k.probed, k.lies, k.same = c.probed, c.lies, c.same
				k.stops = 5 * time.Second
				k.watchTruth(5, 1)
				for i, pause := range []int{2, 4, 7, 1, 1, 600} {
					k.editSet(image(fmt.Sprintf("agent:%d", i+2)))
					k.run(time.Duration(pause) * time.Second)
				}
				k.covered(5, "agent:7")
				if k.wrote("patch pods") == 0 {
					t.Error("nothing was changed in place")
				}
			}, func(ds *appsv1.DaemonSet) {
				if !c.probed {
					ds.Spec.Template.Spec.Containers[0].ReadinessProbe = nil
				}
			})
		})
	}
}

// A change that is undone before the kubelet has seen it restarts no container. No pod waits for one.
func TestUndoOfAChangeThatNobodyHasSeen(t *testing.T) {
	inPlaceCluster(t, 3, func(k *keepers) {
		deaf := func(is bool) {
			k.mu.Lock()
			defer k.mu.Unlock()
			for _, node := range []string{"node-01", "node-02", "node-03"} {
				k.dead[node] = is
			}
		}
		before := k.identities()
		deaf(true) // though the nodes still count as Ready for a while
		k.editSet(image("agent:2"))
		k.run(5 * time.Second)
		if k.with("agent:2") != 1 {
			t.Fatalf("%d pods were changed", k.with("agent:2"))
		}
		k.editSet(image("agent:1"))
		k.run(5 * time.Second)
		deaf(false)
		for _, p := range k.pods() {
			k.editPod(p.Name, func(p *corev1.Pod) { p.Annotations = with(p.Annotations, "touched", "yes") })
		}
		k.run(5 * time.Minute)
		k.covered(3, "agent:1")
		if got := k.set().Status.NumberAvailable; got != 3 {
			t.Errorf("%d of 3 are available", got)
		}
		stay := 0
		for node, uid := range k.identities() {
			if before[node] == uid {
				stay++
			}
		}
		if stay != 2 {
			t.Errorf("%d pods of 3 have stayed: all but the one in the middle of its change were to", stay)
		}
	})
}

// An image that cannot be pulled stops on one node. When that is undone its pod is created again, because its kubelet may still
// pull the image.
func TestUndoOfAnImageThatCannotBePulled(t *testing.T) {
	inPlaceCluster(t, 4, func(k *keepers) {
		k.lacks["agent:none"] = true
		k.watchTruth(4, 1)
		k.editSet(image("agent:none"))
		k.run(10 * time.Minute)
		if k.with("agent:none") != 1 {
			t.Fatalf("%d pods have the image", k.with("agent:none"))
		}
		k.editSet(image("agent:1"))
		k.run(20 * time.Second)
		k.covered(4, "agent:1")
		if k.wrote("patch pods") != 1 || k.wrote("delete pods") != 1 || k.set().Status.NumberAvailable != 4 {
			t.Errorf("%d patches, %d deletes, %d available", k.wrote("patch pods"), k.wrote("delete pods"), k.set().Status.NumberAvailable)
		}
	})
}

// Other names for the same content: each pod is in doubt for a while, once, and can be changed again after that.
func TestUpdateInPlaceOfTheSameContent(t *testing.T) {
	inPlaceCluster(t, 3, func(k *keepers) {
		k.probed, k.same = false, true
		k.editSet(image("agent:2"))
		k.run(5 * time.Minute)
		k.covered(3, "agent:2")
		for _, p := range k.pods() {
			k.editPod(p.Name, func(p *corev1.Pod) { p.Annotations = with(p.Annotations, "seen", "by somebody") })
		}
		k.run(5 * time.Minute)
		for _, name := range []string{"agent:3", "agent:4"} {
			k.editSet(image(name))
			k.run(5 * time.Minute)
			k.covered(3, name)
			if got := k.set().Status.NumberAvailable; got != 3 {
				t.Errorf("%d of 3 are available", got)
			}
		}
		if k.wrote("patch pods") != 9 || k.wrote("delete pods") != 0 {
			t.Errorf("%d patches and %d deletes for three updates of three pods", k.wrote("patch pods"), k.wrote("delete pods"))
		}
	})
}

// A doubt about a change ends when the pod has been ready for long enough, once, and only for this change.
func TestDoubtEndsOnce(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	ix := newIndex()
	version := uint64(0)
	see := func(ready, doubted bool, hash string, changed time.Time, now time.Time) *podEntry {
		version++
		e := &podEntry{version: version, owner: "set"}
		e.UID, e.Node, e.Hash, e.Changed, e.Ready = "u", "n", hash, changed, ready
		if e.ReadySince = at; doubted {
			e.Changing, e.Settles = true, 40*time.Second
		}
		e.follow(ix.pods["u"], 1, now)
		ix.pods["u"] = e
		return e
	}
	see(true, true, "h", at, at)
	if p := see(true, true, "h", at, at.Add(39*time.Second)); !p.Changing || p.Settles != 40*time.Second {
		t.Errorf("before its time: %+v", p.Pod)
	}
	if p := see(true, true, "h", at, at.Add(41*time.Second)); p.Changing || p.Settles != 0 {
		t.Errorf("after its time: %+v", p.Pod)
	}
	see(false, false, "h", at, at.Add(50*time.Second))
	if p := see(true, true, "h", at, at.Add(51*time.Second)); p.Changing {
		t.Errorf("when it was not ready for a moment: %+v", p.Pod)
	}
	if p := see(true, true, "next", at, at.Add(52*time.Second)); !p.Changing {
		t.Errorf("of another change: %+v", p.Pod)
	}
	see(true, true, "next", at, at.Add(93*time.Second))
	if p := see(true, true, "next", at.Add(time.Minute), at.Add(94*time.Second)); !p.Changing {
		t.Errorf("of another change to the same revision: %+v", p.Pod)
	}
}

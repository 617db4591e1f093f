package compat

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// delaySecondDelete holds back the second DELETE of a pod until the first pod has
// changed three times while it terminates. From then on the controller sees no changes
// of pods until the watch is released.
func (r *running) delaySecondDelete(l *lab) {
	var deletes atomic.Int32
	r.set(func(p *tap) {
		p.before = func(what string, req *http.Request) {
			if what != "DELETE pods" || deletes.Add(1) != 2 {
				return
			}
			ctx := req.Context()
			changes := 0
			_ = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 5*time.Second, true, func(ctx context.Context) (bool, error) {
				if l.touchTerminating(ctx, changes) {
					changes++
				}
				return changes == 3, nil
			})
			pause(ctx, 300*time.Millisecond) // until the watch has delivered them
			r.stall("pods")
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// touchTerminating changes the status of a terminating pod, as its kubelet does.
func (l *lab) touchTerminating(ctx context.Context, n int) bool {
	list, err := l.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp != nil {
			p.Status.Message = string(rune('a' + n))
			return setReady(ctx, l.client, &p, corev1.PodRunning, corev1.ConditionFalse) == nil
		}
	}
	return false
}

// ageRevisions rewrites every revision into the form that API servers of Kubernetes
// 1.33 and older wrote.
func (l *lab) ageRevisions() {
	l.t.Helper()
	for _, r := range l.revisions() {
		aged := r.DeepCopy()
		aged.UID, aged.ResourceVersion, aged.ManagedFields = "", "", nil
		aged.Data.Raw = bytes.Replace(r.Data.Raw, []byte(`"metadata":{`), []byte(`"metadata":{"creationTimestamp":null,`), 1)
		if bytes.Equal(aged.Data.Raw, r.Data.Raw) {
			l.t.Fatalf("revision data without metadata: %s", r.Data.Raw)
		}
		l.do(l.client.AppsV1().ControllerRevisions(namespace).Delete(l.t.Context(), r.Name, metav1.DeleteOptions{}))
		_, err := l.client.AppsV1().ControllerRevisions(namespace).Create(l.t.Context(), aged, metav1.CreateOptions{})
		l.do(err)
	}
}

func (l *lab) revisionNames() map[string]int64 {
	l.t.Helper()
	out := map[string]int64{}
	for _, r := range l.revisions() {
		out[r.Name] = r.Revision
	}
	return out
}

// directions runs a test for both directions of a handover.
func directions(t *testing.T, test func(t *testing.T, l *lab, from, to controller)) {
	t.Run("to ours", func(t *testing.T) { test(t, newLab(t), upstream, ours) })
	t.Run("and back", func(t *testing.T) { test(t, newLab(t), ours, upstream) })
}

// judge checks I1 and I4 from now on; it must be called before there are nodes. Call
// the returned function when a controller has ended, and at the end: ours must have
// kept both while it worked. Upstream breaks its budget now and then.
func (l *lab) judge() func(worked controller) {
	o := newObserver()
	(&truth{t: l.t, tell: o.see, store: shared.store}).follow()
	var before findings
	return func(worked controller) {
		l.t.Helper()
		l.do(o.reached(l.t.Context(), shared.store.Server.KV().Rev()))
		now := o.results()
		if worked.name == ours.name && (now.doubles != before.doubles || now.breaches != before.breaches) {
			l.t.Errorf("two pods on a node %v times and the budget broken %v times, were %v and %v:\n%s",
				now.doubles, now.breaches, before.doubles, before.breaches, strings.Join(now.wrong, "\n"))
		}
		before = now
	}
}

// TestHandover moves a cluster from one controller to the other and checks that no pod
// restarts because of it.
func TestHandover(t *testing.T) {
	t.Run("idle", func(t *testing.T) { directions(t, handoverIdle) })
	t.Run("idle, with history and surge", func(t *testing.T) { directions(t, handoverHistory) })
	t.Run("in a rollout", func(t *testing.T) {
		directions(t, func(t *testing.T, l *lab, from, to controller) { handoverRollout(l, from, to, rolling(1, 0)) })
	})
	t.Run("in a surge", func(t *testing.T) {
		directions(t, func(t *testing.T, l *lab, from, to controller) { handoverRollout(l, from, to, rolling(0, 1)) })
	})
	t.Run("in an update by hand", func(t *testing.T) { directions(t, handoverOnDelete) })
	t.Run("revisions of 1.33, idle", func(t *testing.T) { handoverOld(t, newLab(t)) })
	t.Run("revisions of 1.33, in a rollout", func(t *testing.T) { handoverOldRollout(t, newLab(t)) })
}

// handoverIdle: in a cluster at rest nothing is written.
func handoverIdle(t *testing.T, l *lab, from, to controller) {
	l.begin(from, agent(), "n1", "n2", "n3").stop()
	before, picture := l.uids(), l.picture()
	r := l.start(to)
	l.rest()
	if diff := difference(picture, l.picture(), false); diff != "" || !maps.Equal(before, l.uids()) {
		t.Errorf("something has changed (-before +after):\n%s\npods: %v, before %v", diff, l.uids(), before)
	}
	if wrote := r.tally(); wrote.total() != 0 {
		t.Errorf("writes: %s", wrote)
	}
}

// handoverHistory: the history continues, and a rollback finds the old revisions.
func handoverHistory(t *testing.T, l *lab, from, to controller) {
	r := l.begin(from, agent(rolling(0, 1)), "n1", "n2")
	l.edit(image("agent:2"))
	l.until("the update is done", func() bool { return l.everywhere("agent:2") })
	l.rest()
	r.stop()
	before, names := l.uids(), l.revisionNames()
	l.start(to)
	l.rest()
	if !maps.Equal(before, l.uids()) || !maps.Equal(names, l.revisionNames()) {
		t.Errorf("pods %v, before %v; revisions %v, before %v", l.uids(), before, l.revisionNames(), names)
	}
	l.edit(image("agent:1"))
	l.until("the rollback is done", func() bool { return l.everywhere("agent:1") })
	l.rest()
	for name := range names {
		if names[name] == 1 {
			names[name] = 3 // as kubectl rollout history shows it
		}
	}
	if !maps.Equal(names, l.revisionNames()) {
		t.Errorf("after the rollback: revisions %v, want %v", l.revisionNames(), names)
	}
}

// handoverRollout: in the middle of a rollout the new controller continues it. Pods of
// the new template stay, each old pod is replaced once, and what is down at the
// handover counts against the budget like what is taken down afterwards.
func handoverRollout(l *lab, from, to controller, strategy func(*appsv1.DaemonSet)) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	judge := l.judge()
	r := l.begin(from, agent(strategy), nodes...)
	l.kubelet.change(onlyImages("agent:1"))
	l.edit(image("agent:2"))
	l.until("the update has begun", func() bool {
		return slices.ContainsFunc(l.pods(), func(p corev1.Pod) bool { return p.Spec.Containers[0].Image == "agent:2" })
	})
	l.rest()
	r.stop()
	judge(from)
	half := l.uids()
	r = l.start(to)
	l.rest()
	if !maps.Equal(half, l.uids()) {
		l.t.Errorf("stuck halfway: pods %v, before %v", l.uids(), half)
	}
	l.kubelet.change(anyImage)
	l.until("the update is done", func() bool { return l.everywhere("agent:2") })
	l.rest()
	judge(to)
	after := l.uids()
	for uid, what := range half {
		if _, stays := after[uid]; stays != (what[len(what)-1] == '2') {
			l.t.Errorf("%s: still there: %v", what, stays)
		}
	}
	// Two pods for each node in total: an old one and a new one.
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) != 2*len(nodes) {
		l.t.Errorf("%d pods were made for %d nodes and two templates; writes: %s", len(l.seen), len(nodes), r.tally())
	}
}

func handoverOnDelete(t *testing.T, l *lab, from, to controller) {
	r := l.begin(from, agent(func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }), "n1", "n2", "n3")
	l.edit(image("agent:2"))
	l.observed()
	l.do(l.client.CoreV1().Pods(namespace).Delete(t.Context(), l.podOn("n2").Name, metav1.DeleteOptions{}))
	want := map[string]string{"n1": "agent:1", "n2": "agent:2", "n3": "agent:1"}
	l.until("the pod is replaced", func() bool { return maps.Equal(l.images(), want) && isReady(l.podOn("n2")) })
	l.rest()
	r.stop()
	before := l.uids()
	r = l.start(to)
	l.rest()
	if wrote := r.tally(); wrote.total() != 0 || !maps.Equal(before, l.uids()) {
		t.Errorf("writes: %s; pods %v, before %v", wrote, l.uids(), before)
	}
}

// handoverOld: a cluster with old revisions comes to ours, is updated and rolled back,
// and goes back.
func handoverOld(t *testing.T, l *lab) {
	r := l.begin(upstream, agent(), "n1", "n2")
	l.edit(image("agent:2"))
	l.until("the update is done", func() bool { return l.everywhere("agent:2") })
	l.rest()
	r.stop()
	l.ageRevisions()
	before, names := l.uids(), l.revisionNames()
	r = l.start(ours)
	l.rest()
	l.nudge(1)
	if wrote := r.tally(); wrote.total() != 0 || !maps.Equal(before, l.uids()) || !maps.Equal(names, l.revisionNames()) {
		t.Errorf("writes: %s; pods %v, before %v; revisions %v, before %v", wrote, l.uids(), before, l.revisionNames(), names)
	}
	l.edit(image("agent:1"))
	l.until("the rollback is done", func() bool { return l.everywhere("agent:1") })
	l.rest()
	if len(l.revisions()) != 2 {
		t.Errorf("revisions after the rollback: %v", l.revisionNames())
	}
	r.stop()
	before = l.uids()
	l.start(upstream)
	l.rest()
	l.nudge(2)
	if !maps.Equal(before, l.uids()) {
		t.Errorf("back with upstream: pods %v, before %v", l.uids(), before)
	}
	t.Logf("revisions with upstream: %v", l.revisionNames())
}

// handoverOldRollout: a cluster with old revisions comes to ours in the middle of a
// rollout.
func handoverOldRollout(t *testing.T, l *lab) {
	judge := l.judge()
	r := l.begin(upstream, agent(rolling(1, 0)), "n1", "n2", "n3")
	l.kubelet.change(onlyImages("agent:1"))
	l.edit(image("agent:2"))
	l.until("the update has begun", func() bool { return slices.Contains(slices.Collect(maps.Values(l.images())), "agent:2") })
	l.rest()
	r.stop()
	judge(upstream)
	l.ageRevisions()
	half := l.uids()
	l.start(ours)
	l.rest()
	if !maps.Equal(half, l.uids()) || len(l.revisions()) != 2 {
		t.Errorf("stuck halfway: pods %v, before %v; revisions %v", l.uids(), half, l.revisionNames())
	}
	l.kubelet.change(anyImage)
	l.until("the update is done", func() bool { return l.everywhere("agent:2") })
	l.rest()
	judge(ours)
	after := l.uids()
	for uid, what := range half {
		if _, stays := after[uid]; stays != (what[len(what)-1] == '2') {
			t.Errorf("%s: still there: %v", what, stays)
		}
	}
}

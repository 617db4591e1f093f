package plan

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Where the newest pod of a node was refused, or was never bound, only the scheduler
// binds the next one. The binder does not depend on the revision of the pods.
func TestRefusedNodesAreForTheScheduler(t *testing.T) {
	checkWorlds(t, func(t *rapid.T, w twin, out *Plan) {
		for _, d := range out.Deletes {
			if p := w.pod(d.Pod); d.Reason != NodeGone && d.Waited == p.Bound {
				t.Fatalf("%+v of %+v", d, p)
			}
		}
		for _, c := range out.Creates {
			var newest *Pod
			pods := w.podsOf(c.Node)
			for i := range pods {
				if newest == nil || pods[i].Created.After(newest.Created) {
					newest = &pods[i]
				}
			}
			b := w.in.Backoff[c.Node]
			told := b.Waited
			if b.Refused && b.Created.After(told) {
				told = b.Created
			}
			switch {
			case w.in.Set.Scheduled && (!c.ByScheduler || c.Reason == PodRefused),
				!w.in.Set.Scheduled && c.ByScheduler != (c.Reason == PodRefused):
				t.Fatalf("%+v, the DaemonSet being scheduled: %v", c, w.in.Set.Scheduled)
			case w.in.Set.Scheduled || len(pods) > 1 && hasTwin(pods, newest):
				// If two are equally old, either may be taken.
			case newest != nil && newest.Created.After(told):
				if c.ByScheduler != (newest.Refused || !newest.Bound) {
					t.Fatalf("%+v after %+v", c, newest)
				}
			case c.ByScheduler != (b.Refused || !b.Waited.IsZero()):
				t.Fatalf("%+v after %+v", c, b)
			}
		}
	})
}

func hasTwin(pods []Pod, p *Pod) bool {
	for i := range pods {
		if pods[i].Name != p.Name && pods[i].Created.Equal(p.Created) {
			return true
		}
	}
	return false
}

// What is remembered about a pod that waited: for half an hour, together with the
// pauses after failed pods, and until a later pod was bound.
func TestWaitedIsRemembered(t *testing.T) {
	now := scriptNow()
	made := now.Add(-5 * time.Hour)
	b := Backoff{}.Waits(made, now)
	if !b.handed(nil) || b.Expired(now.Add(30*time.Minute)) || !b.Expired(now.Add(30*time.Minute+1)) {
		t.Errorf("after a pod that waited: %+v", b)
	}
	failing := Backoff{Last: now.Add(-time.Minute), Delay: 8 * time.Second, Pod: "x", Hash: "a", Created: now.Add(-2 * time.Minute)}
	if got := failing.Waits(made, now); got.Last != failing.Last || got.Delay != failing.Delay || got.Pod != "x" || got.Waited != made {
		t.Errorf("the pauses have changed: %+v", got)
	}
	if got := b.Waits(made.Add(-time.Hour), now); got.Waited != made {
		t.Errorf("an older pod takes the place of a newer one: %+v", got)
	}
	again := b.Waits(made.Add(time.Hour), now.Add(20*time.Minute))
	if again.Last != b.Last || again.Expired(now.Add(50*time.Minute)) || !again.Expired(now.Add(50*time.Minute+1)) {
		t.Errorf("after another that waited: %+v", again)
	}
	if got := again.After(Delete{UID: "y", Hash: "a", Reason: PodFailed, Created: made}, now.Add(40*time.Minute)); got.Delay != firstBackoff || !got.handed(nil) {
		t.Errorf("a pod fails, the first for long: %+v", got)
	}
	bound := &Pod{Bound: true, Created: made.Add(time.Second)}
	if b.handed(bound) || !b.handed(&Pod{Bound: true, Created: made}) || !b.handed(&Pod{Created: made.Add(time.Hour)}) {
		t.Error("a pod that was bound later does not bring the node back, or another does")
	}
	if got := b.After(Delete{UID: "y", Reason: PodFailed, Created: now}, now); got.handed(nil) {
		t.Errorf("it was bound, and then it failed: %+v", got)
	}
	if got := b.After(Delete{UID: "y", Reason: PodFailed, Created: made.Add(-time.Hour)}, now); !got.handed(nil) {
		t.Errorf("the one that failed is older than the one that waited: %+v", got)
	}
}

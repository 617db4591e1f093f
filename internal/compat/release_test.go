package compat

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/view"
)

// follows makes a DaemonSet follow the policy "waves".
func follows(ds *appsv1.DaemonSet) {
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[view.PolicyAnnotation] = "waves"
}

// rollout returns the DaemonSetRollout.
func (d *rolloutKinds) rollout() (o view.DaemonSetRollout) {
	d.t.Helper()
	u, err := d.rollouts.Get(d.t.Context(), "agent", metav1.GetOptions{})
	if err == nil {
		d.do(runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &o))
	}
	return o
}

// stands waits until release n is in that phase for that reason.
func (d *rolloutKinds) stands(n int, phase, reason string) {
	d.t.Helper()
	if !d.within(patience, func() bool {
		s := d.rollout().Status
		return s.Release == n && s.Phase == phase && s.Reason == reason
	}) {
		s := d.rollout().Status
		d.t.Fatalf("release %d is %s (%s), want %s (%s) of release %d: %s", s.Release, s.Phase, s.Reason, phase, reason, n, s.Message)
	}
}

// says waits until the DaemonSet's own condition says so about its release.
func (d *rolloutKinds) says(want string) {
	d.t.Helper()
	d.until("Progressing is "+want, func() bool {
		return slices.ContainsFunc(d.set().Status.Conditions, func(c appsv1.DaemonSetCondition) bool {
			return c.Type == view.ConditionProgressing && string(c.Status)+" "+c.Reason == want
		})
	})
}

// ask changes the spec, as users do.
func (d *rolloutKinds) ask(spec map[string]any) {
	d.t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": spec})
	d.do(err)
	_, err = d.rollouts.Patch(d.t.Context(), "agent", types.MergePatchType, patch, metav1.PatchOptions{})
	d.do(err)
}

// of returns how many pods are of an image.
func (d *rolloutKinds) of(image string) (n int) {
	for _, got := range d.images() {
		if got == image {
			n++
		}
	}
	return n
}

func (d *rolloutKinds) wantImages(when string, images map[string]int) {
	d.t.Helper()
	d.rest()
	for image, n := range images {
		if got := d.of(image); got != n {
			d.t.Errorf("%s %d pods are of %s, want %d: %v", when, got, image, n, d.images())
		}
	}
}

const twoWaves = "{waves: [{name: first, nodes: 1, approval: true}, {name: all, nodes: 100%}]}"

// drive starts a controller on three nodes with a DaemonSet that follows a policy.
func (d *rolloutKinds) drive(c controller, edits ...func(*appsv1.DaemonSet)) *running {
	d.t.Helper()
	_, err := d.make(d.policies, "RolloutPolicy", "waves", twoWaves)
	d.do(err)
	leader := d.begin(c, agent(append(edits, rolling(1, 0), follows)...), "n1", "n2", "n3")
	d.stands(0, "Idle", "")
	return leader
}

// TestRelease takes releases through a real API server, with the rights of deploy/: one is approved, one is taken
// back, and one is reverted. In the middle the engine is restarted.
func TestRelease(t *testing.T) {
	d := newRolloutKinds(t)
	leader := d.drive(ours)

	d.edit(image("agent:2"))
	d.stands(1, "Waiting", "NotApproved")
	d.says("Unknown NotApproved")
	d.wantImages("in the first wave", map[string]int{"agent:2": 1, "agent:1": 2})
	leader.stop()
	leader = d.start(ours)
	d.addNode("n4", nil)
	d.until("the new node has a pod", func() bool { return len(d.images()) == 4 })
	d.wantImages("with a new node", map[string]int{"agent:2": 1, "agent:1": 3})
	d.ask(map[string]any{"promote": map[string]any{"release": 1, "wave": "first"}})
	d.until("all have it", func() bool { return d.everywhere("agent:2") })
	d.stands(1, "Idle", "")
	d.says("True Released")

	d.edit(image("agent:3"))
	d.stands(2, "Waiting", "NotApproved")
	d.ask(map[string]any{"abort": 2})
	d.stands(2, "Aborted", "AbortRequested")
	d.says("False AbortRequested")
	d.wantImages("after the abort", map[string]int{"agent:2": 4})

	d.edit(image("agent:4"))
	d.stands(3, "Waiting", "NotApproved")
	d.wantImages("of the fix", map[string]int{"agent:4": 1, "agent:2": 3})
	d.edit(image("agent:2"))
	d.until("the revert is done", func() bool { return d.everywhere("agent:2") })
	d.stands(4, "Idle", "")
	leader.stop()
}

// TestReleaseOfHandMadeObjects: what people do to the objects by hand is refused, or reported, and moves no pod.
func TestReleaseOfHandMadeObjects(t *testing.T) {
	d := newRolloutKinds(t)
	leader := d.drive(ours)
	d.edit(image("agent:2"))
	d.stands(1, "Waiting", "NotApproved")
	d.ask(map[string]any{"promote": map[string]any{"release": 7, "wave": "first"}, "abort": 9})
	d.until("requests of other releases are told", func() bool {
		s := d.rollout().Status
		return strings.Contains(s.Ignored, "release") && s.ObservedGeneration > 0
	})
	d.wantImages("after that", map[string]int{"agent:2": 1, "agent:1": 2})
	d.ask(map[string]any{"promote": nil, "abort": nil})
	d.do(d.policies.Delete(t.Context(), "waves", metav1.DeleteOptions{}))
	d.stands(1, "Held", "PolicyGone")
	d.wantImages("without the policy", map[string]int{"agent:2": 1, "agent:1": 2})
	_, err := d.make(d.policies, "RolloutPolicy", "waves", twoWaves)
	d.do(err)
	d.stands(1, "Waiting", "NotApproved")
	d.do(d.rollouts.Delete(t.Context(), "agent", metav1.DeleteOptions{}))
	d.stands(2, "Held", "StableUnknown") // the number goes on, because an old request must not apply to this one
	d.wantImages("without what keeps the release", map[string]int{"agent:2": 1, "agent:1": 2})
	d.ask(map[string]any{"plain": 2})
	d.until("all have it", func() bool { return d.everywhere("agent:2") })
	d.stands(2, "Idle", "")
	leader.stop()
}

// TestReleaseKills: however often the engine dies, no more nodes ever have the target than the stored quota allows
// (R1, R15), and the budget holds (R9). The test reads the quota after the pods, and a quota only grows.
func TestReleaseKills(t *testing.T) {
	d := newRolloutKinds(t)
	_, err := d.make(d.policies, "RolloutPolicy", "waves", "{waves: [{name: one, nodes: 1, soak: 300ms}, {name: some, nodes: 4, soak: 300ms}, {name: all, nodes: 100%}]}")
	d.do(err)
	leader := d.begin(ours, agent(rolling(2, 0), follows), names(10)...)
	d.stands(0, "Idle", "")
	d.watchDown()
	kills, checks := 0, 0
	for n, to := range []string{"agent:2", "agent:3", "agent:4"} {
		d.edit(image(to))
		for i := 0; !d.everywhere(to) || d.rollout().Status.Phase != "Idle"; i++ {
			has := d.of(to)
			if s := d.rollout().Status; s.Release == n+1 && s.Phase != "Idle" {
				checks++
				if has > s.Quota {
					t.Fatalf("%d nodes have %s, and the quota that is kept is %d: %+v", has, to, s.Quota, s)
				}
			}
			if i%3 == 2 && kills < 30 {
				leader.stop()
				leader = d.start(ours)
				kills++
			}
			if i > 2000 {
				t.Fatalf("release %d does not end: %+v", n+1, d.rollout().Status)
			}
			d.within(time.Duration(i%5)*20*time.Millisecond, func() bool { return false })
		}
	}
	leader.stop()
	if down := d.mostDown(); down > 2 {
		t.Errorf("%d nodes were down at once, 2 may", down)
	}
	t.Logf("%d kills, %d looks", kills, checks)
	if kills < 20 || checks < 50 {
		t.Errorf("%d kills and %d looks are too few to tell", kills, checks)
	}
}

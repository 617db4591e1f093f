package e2e_test

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

// TestRolloutCheck shows that the check that the scripts rely on finds what it should.
func TestRolloutCheck(t *testing.T) {
	const minReady = 3 * time.Second
	old := time.Now().Add(-time.Hour)
	for _, tc := range []struct {
		name  string
		new   []*corev1.Pod // the pods at the end, in the order in which they appear
		same  bool          // the old pods stay
		again bool          // node-1 gets one more pod
		both  bool          // the old pods go at the same time
		twice bool          // node-1 has two pods at once
		want  string        // part of the failure; empty for none
	}{
		{name: "kept", new: []*corev1.Pod{fakePod(1, "new", old), fakePod(2, "new", old.Add(minReady))}},
		{name: "nothing happens", same: true, want: "nothing was seen to be replaced"},
		{name: "two down", both: true, new: []*corev1.Pod{fakePod(1, "new", old), fakePod(2, "new", old.Add(minReady))}, want: "2 nodes lacked"},
		{name: "no pause", new: []*corev1.Pod{fakePod(1, "new", old), fakePod(2, "new", old.Add(time.Second))}, want: "was made 2s after"},
		{name: "replaced twice", again: true, new: []*corev1.Pod{fakePod(1, "new", old), fakePod(2, "new", old.Add(minReady))}, want: "had 3 pods"},
		{name: "two pods at once", twice: true, new: []*corev1.Pod{fakePod(1, "new", old), fakePod(2, "new", old.Add(minReady))}, want: "a node had 2 pods at the same time"},
		{name: "half way", new: []*corev1.Pod{fakePod(1, "new", old), fakePod(2, "old", old.Add(minReady))}, want: "2 revisions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &rollout{minReady: minReady, pods: map[types.UID]*corev1.Pod{}, nodes: map[string][]types.UID{}}
			olds := []*corev1.Pod{fakePod(1, "old", old), fakePod(2, "old", old)}
			for _, p := range olds {
				r.see(p, false)
			}
			r.down = 0
			if tc.both {
				r.see(olds[0], true)
				r.see(olds[1], true)
			}
			now := []corev1.Pod{}
			for i, p := range tc.new {
				if tc.twice && i == 0 {
					r.see(p, false)
				}
				r.see(olds[i], true)
				r.see(p, false)
				now = append(now, *p)
			}
			if tc.again {
				extra := fakePod(1, "extra", old)
				r.see(extra, false)
				now[0] = *extra
			}
			if tc.same {
				now = []corev1.Pod{*olds[0], *olds[1]}
			}
			err := r.check(1, now)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("unexpected: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// fakePod returns a pod on node-NODE that was made, and became ready, at made.
func fakePod(node int, revision string, made time.Time) *corev1.Pod {
	name := fmt.Sprintf("%s-%d", revision, node)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(made),
			Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: revision},
		},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", node)},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(made),
		}}},
	}
}

// TestPictureMustLast: what is true only between two of several events at the same
// moment does not count; what lasts does.
func TestPictureMustLast(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	r := &rollout{settle: pictureTime, since: at(0)}
	r.note(at(1000), picture{down: 2, most: 2})
	r.note(at(1001), picture{down: 1, most: 1})
	r.conclude(at(2000))
	if r.down != 1 || r.most != 1 {
		t.Errorf("after a moment with two down: %d down, %d pods on a node; want 1 and 1", r.down, r.most)
	}
	r.note(at(2000), picture{down: 2, most: 1})
	r.note(at(2010), picture{down: 2, most: 1})
	r.note(at(2020), picture{down: 2, most: 1})
	if r.down != 2 {
		t.Errorf("two were down for 20 ms, and %d were counted", r.down)
	}
}

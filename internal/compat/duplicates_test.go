package compat

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTheOneThatServesStays: if a node has two pods, for whatever reason, and
// only the younger one serves, ours keeps that one. Upstream keeps the older
// one.
func TestTheOneThatServesStays(t *testing.T) {
	both(t, func(t *testing.T, l *lab, c controller) {
		r := l.begin(c, agent(), "n1")
		r.stop()
		elder := l.podOn("n1")
		l.until("the second of its creation is over", func() bool {
			return time.Since(elder.CreationTimestamp.Time) > 2*time.Second
		})
		l.do(setReady(t.Context(), l.client, elder, corev1.PodRunning, corev1.ConditionFalse))
		_, err := l.client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "younger", Labels: elder.Labels, OwnerReferences: elder.OwnerReferences},
			Spec:       corev1.PodSpec{NodeName: "n1", Containers: elder.Spec.Containers, Tolerations: elder.Spec.Tolerations},
		}, metav1.CreateOptions{})
		l.do(err)
		l.until("the younger one is ready", func() bool {
			for _, p := range l.pods() {
				if p.Name == "younger" && isReady(&p) {
					return true
				}
			}
			return false
		})
		l.start(c)
		l.until("one is left", func() bool { return len(l.pods()) == 1 })
		want := map[string]string{upstream.name: elder.Name, ours.name: "younger"}[c.name]
		if got := l.pods()[0].Name; got != want {
			t.Errorf("%s is left, want %s", got, want)
		}
	})
}

package engine

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every request is sent once, and the server's answer to it is what counts, even if it
// asks to retry later.
func TestRequestsAreSentOnce(t *testing.T) {
	inCluster(t, func(c *cluster) {
		a, err := newAPI(c.config())
		if err != nil {
			t.Fatal(err)
		}
		about := metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "u"}
		ds, pod, revision := &appsv1.DaemonSet{ObjectMeta: about}, &corev1.Pod{ObjectMeta: about}, &appsv1.ControllerRevision{ObjectMeta: about}
		sent := 0
		for _, refusal := range []error{apierrors.NewTooManyRequests("later", 1), apierrors.NewServerTimeout(corev1.Resource("pods"), "write", 1)} {
			c.intercept(func(request) (error, bool) { sent++; return refusal, false })
			for name, send := range map[string]func(context.Context) error{
				"create a pod": func(ctx context.Context) error { _, err := a.createPod(ctx, "default", pod); return err },
				"try a pod":    func(ctx context.Context) error { _, err := a.tryPod(ctx, pod); return err },
				"delete a pod": func(ctx context.Context) error {
					_, err := a.deletePod(ctx, "default", "a", metav1.DeleteOptions{})
					return err
				},
				"patch a pod":        func(ctx context.Context) error { _, err := a.patchPod(ctx, "default", "a", []byte("{}")); return err },
				"get a pod":          func(ctx context.Context) error { _, err := a.getPod(ctx, "default", "a"); return err },
				"get a whole pod":    func(ctx context.Context) error { _, err := a.getWholePod(ctx, "default", "a"); return err },
				"list a node's pods": func(ctx context.Context) error { _, err := a.podsOn(ctx, "n"); return err },
				"list all pods":      func(ctx context.Context) error { _, err := a.listPods(ctx, ""); return err },
				"get a node":         func(ctx context.Context) error { _, err := a.liveNode(ctx, "n"); return err },
				"get a set":          func(ctx context.Context) error { _, err := a.liveSet(ctx, ds); return err },
				"write a status":     func(ctx context.Context) error { _, err := a.updateStatus(ctx, ds); return err },
				"create a revision":  func(ctx context.Context) error { _, err := a.createRevision(ctx, revision); return err },
				"get a revision":     func(ctx context.Context) error { _, err := a.getRevision(ctx, "default", "a"); return err },
				"update a revision":  func(ctx context.Context) error { _, err := a.updateRevision(ctx, revision); return err },
				"delete a revision":  func(ctx context.Context) error { return a.deleteRevision(ctx, revision) },
				"list releases": func(ctx context.Context) error {
					_, err := a.rollouts("default").List(ctx, metav1.ListOptions{})
					return err
				},
			} {
				began := time.Now()
				sent = 0
				err := send(context.Background())
				if _, asks := apierrors.SuggestsClientDelay(err); !asks || sent != 1 || time.Since(began) > 0 {
					t.Errorf("%s: sent %d times within %s, and ended with %v", name, sent, time.Since(began), err)
				}
			}
		}
	})
}

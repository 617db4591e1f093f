package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/bench/report"
	"everynode/bench/testbed"
)

// The pods of a Deployment. Only the controllers see them: if the fake kubelet watched them, the
// bench would measure itself.
const (
	foreignName = "web-5d8f7c9b6d"
	foreignHash = "5d8f7c9b6d"
	// notForeign selects all other pods.
	notForeign = "!" + appsv1.DefaultDeploymentUniqueLabelKey
)

func foreignPod(i int) string { return fmt.Sprintf("%s-%05d", foreignName, i) }

// prepareForeign creates the pods as a ReplicaSet and the scheduler would leave them.
func prepareForeign(ctx context.Context, r *run) error {
	err := testbed.Parallel(ctx, r.foreign, func(ctx context.Context, i int) error {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: foreignPod(i), Labels: map[string]string{testbed.LabelApp: "web", appsv1.DefaultDeploymentUniqueLabelKey: foreignHash},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: foreignName, UID: "5d8f7c9b-0000-4000-8000-000000000000", Controller: new(true)}}},
			Spec: corev1.PodSpec{NodeName: testbed.NodeName("0", i%r.size), ServiceAccountName: testbed.AgentName,
				AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false), Containers: []corev1.Container{{Name: "web", Image: testbed.Image("1")}}},
		}
		return r.Client.CoreV1().RESTClient().Post().Namespace(testbed.Namespace).Resource("pods").Body(p).Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("make the pods of a Deployment: %w", err)
	}
	return nil
}

// foreignChanges lets each of these pods begin to run, which concerns no DaemonSet.
func foreignChanges(ctx context.Context, r *run, m report.Metrics) error {
	began := time.Now()
	body := []byte(`{"status":{"phase":"Running"}}`)
	err := testbed.Parallel(ctx, r.foreign, func(ctx context.Context, i int) error {
		return r.Client.CoreV1().RESTClient().Patch(types.MergePatchType).Namespace(testbed.Namespace).Resource("pods").Name(foreignPod(i)).
			SubResource("status").Body(body).Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("change the pods of a Deployment: %w", err)
	}
	m["posted"] = time.Since(began).Seconds()
	return nil
}

package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"

	"everynode/internal/plan"
)

// If the pods of a DaemonSet do not meet the standard of their namespace, its events
// say which label allows them.
func TestEventNamesTheLabel(t *testing.T) {
	to := record.NewFakeRecorder(1)
	r := &recorder{to: to, allowances: map[types.UID]flowcontrol.PassiveRateLimiter{}}
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent"}}
	const refusal = `pods "agent-" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes (volume "logs")`
	r.failed(&write{ds: ds, create: &plan.Create{Node: "a"}}, errors.New(refusal))
	want := "Warning FailedCreate Error creating: node a: " + refusal + "; if its pods may do that: kubectl label namespace apps pod-security.kubernetes.io/enforce=privileged --overwrite"
	if got := <-to.Events; got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
}

// A template that can harm its nodes is reported once: not again by an engine that
// starts, nor when something else changes.
func TestEventOfHostPaths(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(2)
		c.addSet(func(ds *appsv1.DaemonSet) { mountHost(ds, "/var/log", true) })
		c.start()
		c.run(10 * time.Second)
		if got := c.events("HostPath"); got != nil {
			t.Errorf("a path that is mounted read-only: %q", got)
		}
		c.editSet(func(ds *appsv1.DaemonSet) { mountHost(ds, "/var/log", false) })
		c.run(10 * time.Second)
		c.editSet(func(ds *appsv1.DaemonSet) { ds.Spec.MinReadySeconds = 3 })
		c.stop()
		c.start()
		c.run(10 * time.Second)
		want := []string{"Warning HostPath: the host can be written to through volume host (/var/log): mount it with readOnly: true in each container"}
		if got := c.events("HostPath"); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// The system's own agents have to write to their nodes.
func TestNoEventOfTheSystemsHostPaths(t *testing.T) {
	to := record.NewFakeRecorder(1)
	r := &recorder{to: to, allowances: map[types.UID]flowcontrol.PassiveRateLimiter{}}
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "agent"}}
	ds.Spec.Template.Spec.Containers = make([]corev1.Container, 1)
	mountHost(ds, "/opt/cni/bin", false)
	r.template(ds)
	if len(to.Events) > 0 {
		t.Errorf("%q", <-to.Events)
	}
}

// mountHost makes a DaemonSet's pods mount a path of their node.
func mountHost(ds *appsv1.DaemonSet, path string, readOnly bool) {
	pod := &ds.Spec.Template.Spec
	pod.Volumes = []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}}}
	pod.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "host", MountPath: "/host", ReadOnly: readOnly}}
}

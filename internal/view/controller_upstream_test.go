//go:build !race

package view

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"

	"everynode/internal/plan"
)

// TestWhatUpstreamWrites runs upstream's controller with a fake API server and compares
// what it writes, a revision and pods, with what we would write.
func TestWhatUpstreamWrites(t *testing.T) {
	ds := daemonSet()
	ds.Annotations["kubernetes.io/change-cause"] = "because"
	ds.Spec.RevisionHistoryLimit = ptr(int32(10))
	ds.Status.CollisionCount = ptr(int32(2))
	ds.Spec.Template.Spec.HostNetwork = true
	client := fake.NewClientset(ds,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
	made := 0
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		made++ // the fake server does not generate names
		a.(clienttesting.CreateAction).GetObject().(*corev1.Pod).Name = fmt.Sprintf("p%d", made)
		return false, nil, nil
	})
	revisions, pods := runUpstream(t, client, 2)

	want := revisions[0]
	got, err := NewRevision(ds, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, ignoreServer()); diff != "" {
		t.Errorf("revision (-upstream +ours):\n%s", diff)
	}
	hash := want.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	h, err := History(ds, read(&want), map[string]bool{hash: true})
	if err != nil || !h.Empty() || h.Hash != hash {
		t.Errorf("we would change upstream's revision: %s, %v", summary(h), err)
	}
	set := Spec(ds, h.Hash)
	for i := range pods {
		p := &pods[i]
		view := Pod(p)
		ours := NewPod(ds, hash, plan.Create{Node: view.Node, ByScheduler: true}, p.Name)
		if diff := cmp.Diff(p, ours, ignoreServer()); diff != "" {
			t.Errorf("pod (-upstream +ours):\n%s", diff)
		}
		if view.Hash != set.Hash || view.Generation != set.Generation || view.Bound || Claims(ds, p) != Owned {
			t.Errorf("upstream's pod reads as %+v", view)
		}
	}
}

func runUpstream(t *testing.T, client *fake.Clientset, nodes int) ([]appsv1.ControllerRevision, []corev1.Pod) {
	ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), klog.Logger{}))
	f := informers.NewSharedInformerFactory(client, 0)
	dsc, err := daemon.NewDaemonSetsController(ctx, f.Apps().V1().DaemonSets(), f.Apps().V1().ControllerRevisions(),
		f.Core().V1().Pods(), f.Core().V1().Nodes(), client, flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan struct{})
	f.Start(ctx.Done())
	go func() { dsc.Run(ctx, 1); close(done) }()
	t.Cleanup(func() { cancel(); <-done; f.Shutdown() })

	var pods *corev1.PodList
	err = wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		pods, err = client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == nodes, err
	})
	if err != nil {
		t.Fatal(fmt.Errorf("upstream made no pods: %w", err))
	}
	revisions, err := client.AppsV1().ControllerRevisions("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(revisions.Items) != 1 {
		t.Fatalf("upstream made %d revisions (%v)", len(revisions.Items), err)
	}
	return revisions.Items, pods.Items
}

// ignoreServer ignores the fields that a server fills in.
func ignoreServer() cmp.Option {
	return cmp.Options{
		cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion", "UID", "CreationTimestamp", "ManagedFields"),
		cmpopts.IgnoreTypes(metav1.TypeMeta{}),
		cmpopts.EquateEmpty(),
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

func ownedPod(name, kind string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}, Spec: corev1.PodSpec{NodeName: "leaving"}}
	if kind != "" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "owner", Controller: ptr.To(true)}}
	}
	return p
}

// evictions is what a drainer asks of an API server, which refuses each pod as
// often as refuse says.
type evictions struct {
	refuse map[string]int
	keep   map[string]bool // the kubelet does not end them
	asked  map[string]int
}

func (e *evictions) drainer(pods ...*corev1.Pod) (drainer, *strings.Builder) {
	objects := []runtime.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}}}
	for _, p := range pods {
		objects = append(objects, p)
	}
	client := fake.NewClientset(objects...)
	e.asked = map[string]int{}
	client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		name := action.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction).Name
		e.asked[name]++
		if e.refuse[name] >= e.asked[name] {
			return true, nil, apierrors.NewTooManyRequests("the budget web does not allow it", 0)
		}
		pod := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
		if !e.keep[name] {
			return true, nil, client.Tracker().Delete(pod, "n", name)
		}
		object, err := client.Tracker().Get(pod, "n", name)
		if err == nil {
			now := metav1.Now()
			object.(*corev1.Pod).DeletionTimestamp, object.(*corev1.Pod).Finalizers = &now, []string{"kubelet"}
			err = client.Tracker().Update(pod, object, "n")
		}
		return true, nil, err
	})
	said := &strings.Builder{}
	return drainer{node: "leaving", client: client, within: time.Minute,
		say: func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) }}, said
}

func TestDrain(t *testing.T) {
	mirror, ended := ownedPod("static", "Node"), ownedPod("ended", "Job")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	ended.Status.Phase = corev1.PodSucceeded
	pods := []*corev1.Pod{ownedPod("web", "ReplicaSet"), ownedPod("db", "StatefulSet"), ownedPod("daemon", "DaemonSet"), mirror, ended}
	for _, test := range []struct {
		name      string
		world     evictions
		force     bool
		noKubelet bool
		want      string // the error; "" for none
		asked     map[string]int
		said      string
	}{
		{name: "at once", asked: map[string]int{"web": 1, "db": 1}},
		{name: "a budget that holds it up", world: evictions{refuse: map[string]int{"db": 20}}, asked: map[string]int{"web": 1, "db": 21},
			said: "pod n/db may not be evicted yet: the budget web does not allow it\n"},
		{name: "a budget that never lets it go", world: evictions{refuse: map[string]int{"db": 1 << 20}},
			want: "1 pods are still on leaving after 1m0s:\n  n/db: the budget web does not allow it\nwait longer with --drain-timeout, or end them with --force"},
		{name: "the same by force", world: evictions{refuse: map[string]int{"db": 1 << 20}}, force: true,
			said: "pod n/db may not be evicted yet: the budget web does not allow it\nthese pods are ending although they should not be evicted:\n  n/db: the budget web does not allow it\n"},
		{name: "a pod that does not end", world: evictions{keep: map[string]bool{"web": true}}, want: "  n/web: it does not end\n"},
		{name: "where no kubelet ends them", world: evictions{keep: map[string]bool{"web": true, "db": true}}, noKubelet: true, asked: map[string]int{"web": 1, "db": 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, said := test.world.drainer(pods...)
				d.force = test.force
				err := d.drain(t.Context(), !test.noKubelet)
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("error %v, want %q", err, test.want)
				}
				if test.asked != nil && !maps.Equal(test.asked, test.world.asked) {
					t.Errorf("evicted %v, want %v", test.world.asked, test.asked)
				}
				if test.want == "" && said.String() != test.said {
					t.Errorf("said %q, want %q", said, test.said)
				}
				for _, stays := range []string{"daemon", "static", "ended"} {
					if test.world.asked[stays] > 0 {
						t.Errorf("%s was evicted", stays)
					}
				}
			})
		})
	}
}

// A drain that is interrupted does not count as one that took too long.
func TestDrainInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := evictions{refuse: map[string]int{"web": 1 << 20}}
		d, _ := world.drainer(ownedPod("web", "ReplicaSet"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		if err := d.drain(ctx, true); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCheckLonely(t *testing.T) {
	world := evictions{}
	d, _ := world.drainer(ownedPod("web", "ReplicaSet"), ownedPod("alone", ""), ownedPod("daemon", "DaemonSet"))
	if err := d.checkLonely(t.Context()); err == nil || !strings.Contains(err.Error(), "no controller would recreate these pods on another node: n/alone;") {
		t.Errorf("error %v", err)
	}
	d.force = true
	if err := d.checkLonely(t.Context()); err != nil {
		t.Errorf("by force: %v", err)
	}
}

func TestCordonAndDelete(t *testing.T) {
	world := evictions{}
	d, _ := world.drainer()
	if err := d.cordon(t.Context()); err != nil {
		t.Fatal(err)
	}
	node, err := d.client.CoreV1().Nodes().Get(t.Context(), "leaving", metav1.GetOptions{})
	if err != nil || !node.Spec.Unschedulable {
		t.Errorf("not cordoned: %v", err)
	}
	client := d.client.(*fake.Clientset)
	answers := []error{apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "leaving", errors.New("with the taint dedicated")), errors.New("no route to host"), nil}
	client.PrependReactor("delete", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		err := answers[0]
		answers = slices.Delete(answers, 0, 1)
		return err != nil, nil, err
	})
	if kept, err := d.deleteNode(t.Context()); err != nil || !strings.Contains(kept, "with the taint dedicated") {
		t.Errorf("a Node that is kept: %q, %v", kept, err)
	}
	if _, err := d.deleteNode(t.Context()); err == nil {
		t.Error("a server that does not answer is not told of")
	}
	for range 2 { // the second time it is gone
		if kept, err := d.deleteNode(t.Context()); err != nil || kept != "" {
			t.Errorf("%q, %v", kept, err)
		}
		answers = append(answers, nil)
	}
	if there, err := d.registered(t.Context()); there || err != nil {
		t.Errorf("the Node is still there: %v, %v", there, err)
	}
}

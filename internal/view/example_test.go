package view_test

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

func agent(image string) *appsv1.DaemonSet {
	labels := map[string]string{"app": "agent"}
	limit := int32(10)
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "default", UID: "agent-uid"},
		Spec: appsv1.DaemonSetSpec{
			Selector:             &metav1.LabelSelector{MatchLabels: labels},
			RevisionHistoryLimit: &limit,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: image}}}},
		},
	}
}

// An update makes a revision. A rollback does not: the revision with the same template becomes the newest.
func ExampleHistory() {
	var revisions []*view.Revision
	for _, image := range []string{"agent:1", "agent:2", "agent:1"} {
		h, err := view.History(agent(image), revisions, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		if h.Create != nil {
			fmt.Printf("%s: create revision %d\n", image, h.Create.Revision)
			revisions = append(revisions, view.ReadRevision(h.Create))
		}
		for _, u := range h.Update {
			fmt.Printf("%s: what was made first becomes revision %d\n", image, u.Revision.Revision)
		}
	}
	// Output:
	// agent:1: create revision 1
	// agent:2: create revision 2
	// agent:1: what was made first becomes revision 3
}

// The same arguments give the same name, so that a create that is sent twice makes only one pod.
func ExamplePodName() {
	ds := agent("agent:1")
	first := view.PodName(ds, "node-1", "", "", 0)
	fmt.Println(first == view.PodName(ds, "node-1", "", "", 0), len(first))
	fmt.Println(first == view.PodName(ds, "node-2", "", "", 0))
	fmt.Println(first == view.PodName(ds, "node-1", "", "uid-of-a-failed-pod", 0))
	// Output:
	// true 16
	// false
	// false
}

// Who binds the pods follows from the template, unless the DaemonSet says so.
func ExampleBinding_Scheduled() {
	ds := agent("agent:1")
	fmt.Println(view.Binding{}.Scheduled(ds))
	ds.Annotations = map[string]string{view.BindByAnnotation: "scheduler"}
	fmt.Println(view.Binding{}.Scheduled(ds))
	ds.Annotations[view.BindByAnnotation] = "nobody"
	fmt.Println(view.Binding{}.Scheduled(ds))
	// Output:
	// false <nil>
	// true <nil>
	// true annotation everynode.io/bind-by: "nobody" is neither "engine" nor "scheduler"; the scheduler binds the pods
}

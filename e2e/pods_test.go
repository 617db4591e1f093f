package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podSet is a set of pods by name.
type podSet map[string]podIdentity

// podIdentity is what does not change for as long as a pod and its containers are left
// alone.
type podIdentity struct {
	Node, UID  string
	Containers string // name, id and restarts of each
	State      string // Running, or why not
}

// listPods returns the pods of the script that match selector.
func (c *cluster) listPods(selector string) ([]corev1.Pod, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	list, err := client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list the pods %s: %w", selector, err)
	}
	return list.Items, nil
}

// podsOn returns the matching pods on nodes; no nodes means all.
func (c *cluster) podsOn(selector string, nodes []string) (podSet, error) {
	pods, err := c.listPods(selector)
	if err != nil {
		return nil, err
	}
	set := podSet{}
	for i := range pods {
		p := &pods[i]
		if len(nodes) == 0 || slices.Contains(nodes, p.Spec.NodeName) {
			set[p.Name] = identify(p)
		}
	}
	return set, nil
}

func identify(p *corev1.Pod) podIdentity {
	id := podIdentity{Node: p.Spec.NodeName, UID: string(p.UID), State: string(p.Status.Phase)}
	if p.DeletionTimestamp != nil {
		id.State = "is being deleted"
	}
	var containers []string
	for _, s := range p.Status.ContainerStatuses {
		containers = append(containers, fmt.Sprintf("%s %s, %d restarts", s.Name, s.ContainerID, s.RestartCount))
	}
	id.Containers = strings.Join(containers, "; ")
	return id
}

func rememberPods(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: remember-pods NAME SELECTOR")
	}
	c := clusterOf(ts)
	set, err := c.podsOn(args[1], nil)
	ts.Check(err)
	if len(set) == 0 {
		ts.Fatalf("no pod matches %s", args[1])
	}
	for name, p := range set {
		if p.State != string(corev1.PodRunning) {
			ts.Fatalf("pod %s: %s", name, p.State)
		}
	}
	c.pods[args[0]] = set
}

func samePods(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: same-pods NAME SELECTOR [NODE...]")
	}
	c, nodes := clusterOf(ts), args[2:]
	remembered, ok := c.pods[args[0]]
	if !ok {
		ts.Fatalf("no pods are remembered as %s", args[0])
	}
	want := podSet{}
	for name, p := range remembered {
		if len(nodes) == 0 || slices.Contains(nodes, p.Node) {
			want[name] = p
		}
	}
	if len(want) == 0 {
		ts.Fatalf("no pod on %v is remembered as %s", nodes, args[0])
	}
	got, err := c.podsOn(args[1], nodes)
	ts.Check(err)
	if diff := cmp.Diff(want, got); diff != "" {
		ts.Fatalf("not the pods that were remembered as %s (-remembered +now):\n%s", args[0], diff)
	}
}

func onePodEach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: one-pod-each SELECTOR NODE...")
	}
	pods, err := clusterOf(ts).listPods(args[0])
	ts.Check(err)
	var got []string
	for _, p := range pods {
		node, ended := p.Spec.NodeName, p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		switch {
		case p.DeletionTimestamp != nil && ended:
			continue // nothing of it runs: its successor need not wait until its kubelet has removed it
		case p.DeletionTimestamp != nil:
			node += " (being deleted)"
		}
		got = append(got, node)
	}
	want := slices.Clone(args[1:])
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		ts.Fatalf("not one pod on each of these nodes (-want +got):\n%s", diff)
	}
}

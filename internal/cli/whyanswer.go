package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// snapshot is what the API server says now, about everything that the
// algorithm looks at.
type snapshot struct {
	sets      []appsv1.DaemonSet
	nodes     []plan.Node
	pods      []corev1.Pod
	revisions []*view.Revision
}

// answer plans each DaemonSet that is asked about over a snapshot and keeps the
// verdicts.
func answer(ctx context.Context, client kubernetes.Interface, q question, now time.Time) ([]whyRow, error) {
	s, err := gather(ctx, client, q.namespace)
	if err != nil {
		return nil, err
	}
	if q.node != "" && !slices.ContainsFunc(s.nodes, func(n plan.Node) bool { return n.Name == q.node }) {
		return nil, fmt.Errorf("no node %q in the cluster: `kubectl get nodes` lists them", q.node)
	}
	var rows []whyRow
	found := false
	for i := range s.sets {
		ds := &s.sets[i]
		if q.set != "" && ds.Name != q.set {
			continue
		}
		found = true
		of, err := s.why(ds, now)
		if err != nil {
			return nil, err
		}
		of = slices.DeleteFunc(of, func(r whyRow) bool { return q.node != "" && r.Node != q.node })
		if err := s.askScheduler(ctx, client, ds, of); err != nil {
			return nil, err
		}
		if err := askEngine(ctx, client, ds, of, now); err != nil {
			return nil, err
		}
		rows = append(rows, of...)
	}
	if q.set != "" && !found {
		return nil, fmt.Errorf("no DaemonSet %q in namespace %q: `kubectl get daemonsets -A` lists them, -n names another namespace", q.set, q.namespace)
	}
	return rows, nil
}

func gather(ctx context.Context, client kubernetes.Interface, namespace string) (*snapshot, error) {
	s := &snapshot{}
	sets, err := client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the DaemonSets: %w", err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the pods: %w", err)
	}
	revisions, err := client.AppsV1().ControllerRevisions(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the revisions: %w", err)
	}
	s.sets, s.pods = sets.Items, pods.Items
	for i := range nodes.Items {
		s.nodes = append(s.nodes, view.Node(&nodes.Items[i]))
	}
	for i := range revisions.Items {
		s.revisions = append(s.revisions, view.ReadRevision(&revisions.Items[i]))
	}
	return s, nil
}

// why plans one DaemonSet and returns a row for each node.
func (s *snapshot) why(ds *appsv1.DaemonSet, now time.Time) ([]whyRow, error) {
	in := plan.Input{Now: now, Nodes: s.nodes}
	live := map[string]bool{}
	byName := map[string]*plan.Pod{}
	for i := range s.pods {
		if c := view.Claims(ds, &s.pods[i]); c == view.Owned || c == view.Adopt {
			in.Pods = append(in.Pods, view.Pod(&s.pods[i]))
			live[s.pods[i].Labels[appsv1.ControllerRevisionHashLabelKey]] = true
		}
	}
	history, err := view.History(ds, s.revisions, live)
	if err != nil {
		return nil, fmt.Errorf("read the revisions of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	in.Set = view.Spec(ds, history.Hash)
	for i := range in.Pods {
		byName[in.Pods[i].Name] = &in.Pods[i]
	}
	var out plan.Plan
	plan.Make(&in, &out)
	rows := make([]whyRow, 0, len(out.Verdicts))
	for i := range out.Verdicts {
		rows = append(rows, rowOf(ds, &out.Verdicts[i], byName))
	}
	slices.SortFunc(rows, func(a, b whyRow) int { return cmp.Compare(a.Node, b.Node) })
	return rows, nil
}

func rowOf(ds *appsv1.DaemonSet, v *plan.Verdict, pods map[string]*plan.Pod) whyRow {
	r := whyRow{Node: v.Node, Namespace: ds.Namespace, DaemonSet: ds.Name, Pod: v.Pod, Reason: v.Reason.String(),
		Detail: v.Detail, Why: v.Reason.Sentence(), Change: v.Reason.Remedy(),
		creates: len(v.Creates()) > 0, deletes: len(v.Deletes()) > 0}
	if p := pods[v.Pod]; p != nil {
		since := sinceWhen(p)
		r.Since = &since
	}
	if !v.Until.IsZero() {
		r.Until = &v.Until
	}
	return r
}

// sinceWhen is when the pod came into the state that it is in.
func sinceWhen(p *plan.Pod) time.Time {
	switch {
	case !p.Deleted.IsZero():
		return p.Deleted
	case p.Ready && !p.ReadySince.IsZero():
		return p.ReadySince
	default:
		return p.Created
	}
}

func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "<none>"
	}
	return duration.HumanDuration(time.Since(*t))
}

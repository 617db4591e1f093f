package why

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

type daemonSet = appsv1.DaemonSet

// snapshot is the current state on the API server of everything that the algorithm looks at.
type snapshot struct {
	sets      []daemonSet
	nodes     []plan.Node
	silent    map[string]string // by nodes that are not Ready: what is said about them
	owned     map[types.UID][]*corev1.Pod
	orphans   []*corev1.Pod
	revisions []*view.Revision
	// templates are the revisions with their data; nil if it was not read.
	templates []appsv1.ControllerRevision
	unread    error // why the kept state of releases was not read: then every DaemonSet is treated as one without a policy; nil: it was read
	releases  map[types.NamespacedName]underWay
	keepers   map[types.NamespacedName]*view.DaemonSetRollout
	policies  []view.RolloutPolicy // only Handovers reads them

	// About the DaemonSet that was planned last.
	pods     map[string][]*corev1.Pod // by node
	claims   map[string]bool          // nodes with pods that are to be adopted or released
	hash     string                   // of the current revision
	previous bool                     // there is an earlier revision to go back to
	budget   Budget
}

func gather(ctx context.Context, client kubernetes.Interface, namespace string) (*snapshot, error) {
	sets, err := client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the DaemonSets: %w", err)
	}
	s := newSnapshot(sets.Items, nil, nil)
	if err := s.readNodes(ctx, client); err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	if err := s.readPodsOf(ctx, client, namespace); err != nil {
		return nil, fmt.Errorf("list the pods: %w", err)
	}
	revisions, err := client.AppsV1().ControllerRevisions(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the revisions: %w", err)
	}
	s.templates = revisions.Items
	for i := range revisions.Items {
		s.revisions = append(s.revisions, view.ReadRevision(&revisions.Items[i]))
	}
	kept, err := Releases(ctx, client, namespace)
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	s.unread = err
	s.releases, s.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
	for i := range kept {
		s.addRelease(&kept[i], revisions.Items)
	}
	return s, nil
}

func newSnapshot(sets []daemonSet, nodes []corev1.Node, pods []corev1.Pod) *snapshot {
	s := &snapshot{sets: sets, silent: map[string]string{}, owned: map[types.UID][]*corev1.Pod{}}
	for i := range nodes {
		s.addNode(&nodes[i])
	}
	for i := range pods {
		s.addPod(&pods[i])
	}
	return s
}

func (s *snapshot) addNode(node *corev1.Node) {
	n := view.Node(node)
	s.nodes = append(s.nodes, n)
	if !n.Ready {
		s.silent[n.Name] = SaidOfNode(node)
	}
}

func (s *snapshot) addPod(p *corev1.Pod) {
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil {
		s.owned[owner.UID] = append(s.owned[owner.UID], p)
	} else {
		s.orphans = append(s.orphans, p)
	}
}

// SaidOfNode returns what the Ready condition says about a node that is not Ready.
func SaidOfNode(n *corev1.Node) string {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Message
		}
	}
	return "its kubelet has never reported"
}

// why plans one DaemonSet and returns a row for each node.
func (s *snapshot) why(ds *daemonSet, now time.Time) ([]Row, error) {
	in, err := s.input(ds, now)
	if err != nil {
		return nil, err
	}
	s.follow(in, ds)
	byName := make(map[string]*plan.Pod, len(in.Pods))
	for i := range in.Pods {
		byName[in.Pods[i].Name] = &in.Pods[i]
	}
	var out plan.Plan
	plan.Make(in, &out)
	s.budget = budgetOf(in, &out)
	rows := make([]Row, 0, len(out.Verdicts))
	for i := range out.Verdicts {
		row := rowOf(ds, &out.Verdicts[i], byName)
		row.claims = s.claims[row.Node]
		if out.Verdicts[i].Reason == plan.AwaitsWave && in.Release != nil {
			row.Detail = s.stands(ds)
		}
		if in.Set.Assists {
			row.leave(&out.Verdicts[i])
		}
		row.await(&out.Verdicts[i], s.keeperOf(ds))
		rows = append(rows, row)
	}
	nameHolders(rows, out.Verdicts)
	return rows, nil
}

func budgetOf(in *plan.Input, out *plan.Plan) (b Budget) {
	b.MaxUnavailable, b.MaxSurge = in.Set.Budget(out.Status.Desired)
	for i := range out.Verdicts {
		if out.Verdicts[i].HoldsBudget() {
			b.Used++
		}
	}
	return b
}

// input returns the DaemonSet's input without what people have asked of its releases.
func (s *snapshot) input(ds *daemonSet, now time.Time) (*plan.Input, error) {
	in := &plan.Input{Now: now, Nodes: s.nodes}
	live := map[string]bool{}
	s.pods, s.claims = map[string][]*corev1.Pod{}, map[string]bool{}
	for _, candidates := range [][]*corev1.Pod{s.owned[ds.UID], s.orphans} {
		for _, p := range candidates {
			c := view.Claims(ds, p)
			if c == view.Adopt || c == view.Release {
				s.claims[view.TargetNode(p)] = true
			}
			if c == view.Owned || c == view.Adopt {
				in.Pods = append(in.Pods, view.Pod(p))
				live[p.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
				node := view.TargetNode(p)
				s.pods[node] = append(s.pods[node], p)
			}
		}
	}
	history, err := view.History(ds, s.revisions, live)
	if err != nil {
		return nil, fmt.Errorf("read the revisions of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	s.hash, s.previous = history.Hash, s.hasPrevious(ds, history.Hash)
	in.Set = view.Spec(ds, history.Hash)
	in.Set.InPlace = view.InPlaceFrom(ds, history.Hash, s.templates)
	return in, nil
}

// hasPrevious reports whether the DaemonSet can be rolled back to another template.
func (s *snapshot) hasPrevious(ds *daemonSet, current string) bool {
	for _, r := range s.revisions {
		c := view.Claims(ds, r.Object)
		if (c == view.Owned || c == view.Adopt) && r.Object.Labels[appsv1.ControllerRevisionHashLabelKey] != current {
			return true
		}
	}
	return false
}

func rowOf(ds *daemonSet, v *plan.Verdict, pods map[string]*plan.Pod) Row {
	r := Row{Node: v.Node, Namespace: ds.Namespace, DaemonSet: ds.Name, Pod: v.Pod, Reason: v.Reason.String(),
		Detail: v.Detail, Why: v.Reason.Sentence(), Change: v.Reason.Remedy(),
		Desired: v.Desired, Available: v.Available, Updated: v.Updated,
		creates: len(v.Creates()) > 0, deletes: len(v.Deletes()) > 0, changes: len(v.Changes()) > 0}
	if p := pods[v.Pod]; p != nil {
		since := sinceWhen(p)
		r.Since = &since
	}
	if !v.Until.IsZero() {
		r.Until = &v.Until
	}
	r.ranked(v)
	return r
}

// maxHolders is how many of the nodes that hold the budget a row names.
const maxHolders = 3

// nameHolders writes into the rows that wait for the update's budget which nodes hold it. rows and verdicts
// are about the same nodes, in the same order.
func nameHolders(rows []Row, verdicts []plan.Verdict) {
	var holders []string
	for i := range verdicts {
		if verdicts[i].HoldsBudget() {
			holders = append(holders, verdicts[i].Node)
		}
	}
	sortNaturally(holders)
	for i := range rows {
		if rows[i].Reason != plan.BudgetSpent.String() || len(holders) == 0 {
			continue
		}
		rows[i].BudgetHeldBy, rows[i].BudgetHolders = holders[:min(len(holders), maxHolders)], len(holders)
		rows[i].Detail = "held by " + holdersText(&rows[i])
	}
}

// sinceWhen returns when the pod entered its current state.
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

package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// Question is a question about one node, one DaemonSet, or both.
type Question struct {
	// Node and DaemonSet are names; one of them may be empty.
	Node, DaemonSet string
	// Namespace is the namespace of the DaemonSets; empty: all.
	Namespace string
	// EngineOff means that the control plane is known not to run a DaemonSet controller of its own.
	EngineOff bool
}

// Answer is the answer to a Question.
type Answer struct {
	// DaemonSets has an entry for each DaemonSet with rows.
	DaemonSets []Set `json:"daemonSets"`
	// Rows has one row for each DaemonSet on each node. Rows that are held up come first, then those that
	// wait for others, then nodes that should not have a pod, and last those that are up to date. Each group
	// is sorted by name.
	Rows []Row `json:"rows"`
	// NotRead says what could not be read, and what is not known because of that, a sentence each.
	NotRead []string `json:"notRead,omitempty"`
}

// Set is a DaemonSet as a whole.
type Set struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Reasons counts the rows by reason.
	Reasons            map[string]int `json:"reasons"`
	Generation         int64          `json:"generation"`
	ObservedGeneration int64          `json:"observedGeneration"`
	// Controller says what is known to be wrong with the controller that should do the work; empty if nothing
	// is. Command is a command to type about it, if there is one.
	Controller string `json:"controller,omitempty"`
	Command    string `json:"command,omitempty"`
	// Warnings are what its pods may do to their nodes and should not (view.HostPathWarnings).
	Warnings []string `json:"warnings,omitempty"`
}

// Row is the answer for one DaemonSet on one node.
type Row struct {
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	DaemonSet string `json:"daemonSet"`
	Pod       string `json:"pod,omitempty"`
	Reason    string `json:"reason"`
	// OK means that the node has what it should: the current pod, available, or no pod where none should be.
	OK bool `json:"ok"`
	// Detail is the subject of the reason, or its cause, in one line.
	Detail string `json:"detail,omitempty"`
	// Cause is what keeps the pod from being available, if it is known.
	Cause *Cause `json:"cause,omitempty"`
	// Refused is "create" or "delete" where the API server refused one.
	Refused string `json:"refused,omitempty"`
	// BudgetHeldBy are the nodes that an update waits for, the first few by name. BudgetHolders is how many
	// there are.
	BudgetHeldBy  []string `json:"budgetHeldBy,omitempty"`
	BudgetHolders int      `json:"budgetHolders,omitempty"`
	// Since is when the pod entered this state, if known.
	Since *time.Time `json:"since,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	Why   string     `json:"why"`
	// Change is what would change this, in words; Commands are what to type.
	Change   string   `json:"change,omitempty"`
	Commands []string `json:"commands,omitempty"`

	// Desired, Available and Updated are what the node adds to the DaemonSet's status.
	Desired   bool `json:"-"`
	Available bool `json:"-"`
	Updated   bool `json:"-"`

	rank                      rank
	creates, deletes, changes bool // what the plan writes on the node
	claims                    bool // a pod is to be adopted there, or released from the DaemonSet
}

// Cause is what keeps a pod from being available.
type Cause struct {
	// Pod is the pod; with surge it may differ from the row's.
	Pod string `json:"pod"`
	view.Cause
}

// rank is the order of rows, the most interesting first.
type rank uint8

const (
	heldUp rank = iota
	waits
	notWanted
	fine
)

// Ask answers the question from the current state of the API server.
func Ask(ctx context.Context, client kubernetes.Interface, q Question, now time.Time) (*Answer, error) {
	s, err := gather(ctx, client, q.Namespace)
	if err != nil {
		return nil, err
	}
	if err := s.knows(q); err != nil {
		return nil, err
	}
	a := &Answer{DaemonSets: []Set{}, Rows: []Row{}}
	var g gaps
	for i := range s.sets {
		ds := &s.sets[i]
		if q.DaemonSet != "" && ds.Name != q.DaemonSet {
			continue
		}
		rows, err := s.why(ds, now)
		if err != nil {
			return nil, err
		}
		rows = slices.DeleteFunc(rows, func(r Row) bool { return q.Node != "" && r.Node != q.Node })
		g.without(s, ds)
		if err := s.explain(ctx, client, ds, rows, now, &g); err != nil {
			return nil, err
		}
		of := summary(ds, rows)
		kept := s.keeperOf(ds)
		if err := askController(ctx, client, q, ds, &of, rows, kept != nil && kept.Assists, now); err != nil {
			return nil, err
		}
		a.DaemonSets = append(a.DaemonSets, of)
		a.Rows = append(a.Rows, rows...)
	}
	slices.SortFunc(a.Rows, byInterest)
	a.NotRead = g.said
	return a, nil
}

// explain adds to the rows what others than the algorithm know. What the user may not read is noted.
func (s *snapshot) explain(ctx context.Context, client kubernetes.Interface, ds *daemonSet, rows []Row, now time.Time, g *gaps) error {
	if err := g.note("pods of all namespaces", withoutPods, s.askScheduler(ctx, client, rows)); err != nil {
		return err
	}
	if err := g.note("events", withoutEvents, askEngine(ctx, client, ds, rows, now)); err != nil {
		return err
	}
	if err := g.note("events", withoutEvents, s.askKubelets(ctx, client, ds, rows)); err != nil {
		return err
	}
	for i := range rows {
		rows[i].Commands = s.commands(ds, &rows[i])
	}
	return nil
}

// knows returns an error if the cluster does not have what the question is about.
func (s *snapshot) knows(q Question) error {
	if q.Node != "" && !slices.ContainsFunc(s.nodes, func(n plan.Node) bool { return n.Name == q.Node }) {
		return fmt.Errorf("no node %q in the cluster: `kubectl get nodes` lists them", q.Node)
	}
	if q.DaemonSet != "" && !slices.ContainsFunc(s.sets, func(ds daemonSet) bool { return ds.Name == q.DaemonSet }) {
		return fmt.Errorf("no DaemonSet %q in namespace %q: `kubectl get daemonsets -A` lists them, -n names another namespace", q.DaemonSet, q.Namespace)
	}
	return nil
}

func summary(ds *daemonSet, rows []Row) Set {
	of := Set{Namespace: ds.Namespace, Name: ds.Name, Reasons: map[string]int{}, Generation: ds.Generation, ObservedGeneration: ds.Status.ObservedGeneration, Warnings: view.HostPathWarnings(&ds.Spec.Template.Spec)}
	for i := range rows {
		of.Reasons[rows[i].Reason]++
	}
	return of
}

func byInterest(a, b Row) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), Naturally(a.Node, b.Node), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.DaemonSet, b.DaemonSet))
}

// ranked sets the row's place in the order.
func (r *Row) ranked(v *plan.Verdict) {
	switch {
	case v.Reason == plan.UpToDate:
		r.rank, r.OK = fine, true
	case v.Reason == plan.HeldByGuard:
		r.rank = waits
	case !v.Desired && !r.writes() && v.Reason != plan.WaitingForTermination && !halted(v.Reason):
		r.rank, r.OK = notWanted, true
	case slices.Contains([]plan.Reason{plan.BudgetSpent, plan.AwaitsWave, plan.MinReadyWait, plan.WaitingForDeletion, plan.WaitingForTermination,
		plan.Unconfirmed, plan.NewerTemplate, plan.Outdated, plan.OutdatedInPlace, plan.ChangingInPlace, plan.Surge, plan.Surged}, v.Reason):
		r.rank = waits
	}
}

// halted reports whether the DaemonSet as a whole does nothing.
func halted(r plan.Reason) bool {
	return r == plan.SetDeleted || r == plan.SelectsAll || r == plan.InvalidSpec
}

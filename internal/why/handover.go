package why

import (
	"context"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// Handover is what happens to a DaemonSet if the engine is removed, so that nothing knows about waves.
type Handover struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Phase is the phase of the release, empty if none is kept; Held is the number of nodes whose pods the guard holds.
	Phase   string `json:"phase,omitempty"`
	Release int    `json:"release"`
	Held    int    `json:"held,omitempty"`
	// Updates, Removals and Additions count the nodes whose pods would be replaced, removed and created; AtATime is how
	// many may be down at a time meanwhile.
	Updates   int `json:"updates"`
	Removals  int `json:"removals"`
	Additions int `json:"additions"`
	AtATime   int `json:"atATime"`
	// WhenApplied means that the updates begin when its manifest is applied the next time.
	WhenApplied bool `json:"whenApplied,omitempty"`
	// NobodyUpdates means that its pods keep their version: it is OnDelete, and the engine deleted the outdated ones.
	NobodyUpdates bool `json:"nobodyUpdates,omitempty"`
	// Because says, if no release is under way, why pods would move all the same, and what to do about it.
	Because string `json:"because,omitempty"`
}

// What Handover.Because says.
const (
	becauseUnmet   = "it follows a RolloutPolicy, and no engine keeps its releases yet; start the engine, or revert the template"
	becauseChanged = "its template has changed, and no engine has begun the release; start the engine, or revert the template"
	becausePaused  = "nodes that missed a release wait, as it is paused; everynode rollout resume lets them have it"
	becauseShut    = "nodes that missed a release wait until a window opens"
)

// Moves reports whether pods would be replaced, removed or created.
func (h *Handover) Moves() bool { return h.Updates+h.Removals+h.Additions > 0 }

// Handovers returns what Kubernetes' own controller would do if the engine were removed now, for every DaemonSet of the
// namespace (empty: all) that it would treat differently. mutation means that the admission policy that makes
// DaemonSets OnDelete is removed as well. Then the manifest may say RollingUpdate, and counts when it is applied again.
// It reads the objects from the API server. Without the right to read the kept states of releases, and policies, it
// fails.
func Handovers(ctx context.Context, client kubernetes.Interface, namespace string, mutation bool, now time.Time) ([]Handover, error) {
	s, err := gather(ctx, client, namespace)
	if err != nil {
		return nil, err
	}
	if s.unread != nil {
		return nil, s.unread // without reading them it cannot say that there are none
	}
	if s.policies, err = listOurs[view.RolloutPolicy](ctx, client, "", view.PolicyResource, "the policies"); err != nil {
		return nil, err
	}
	return s.handovers(mutation, now)
}

func (s *snapshot) handovers(mutation bool, now time.Time) (all []Handover, err error) {
	for i := range s.sets {
		ds := &s.sets[i]
		if s.keeper(ds) == nil && !s.meansWaves(ds) {
			continue // nothing would be different
		}
		in, err := s.input(ds, now)
		if err != nil {
			return nil, err
		}
		h, updatesAlone, differs := s.changesHands(ds, in, mutation)
		if !differs {
			continue
		}
		h.count(in, updatesAlone)
		underWay := h.Phase != "" && h.Phase != rollout.Idle.String()
		if underWay || h.Held > 0 || h.NobodyUpdates || h.Moves() {
			all = append(all, h)
		}
	}
	return all, nil
}

// meansWaves reports whether the updates of the DaemonSet are to go in waves, whatever is kept of them: it names a
// policy, one chooses it, or the engine has written into its status that a release is not over.
func (s *snapshot) meansWaves(ds *daemonSet) bool {
	_, names := ds.Annotations[view.PolicyAnnotation]
	chooses := func(p view.RolloutPolicy) bool { return p.Chooses(ds) }
	return names || view.InRelease(&ds.Status) || slices.ContainsFunc(s.policies, chooses)
}

// changesHands reports whether a DaemonSet would be treated differently. updatesAlone means that only its updates
// would: Kubernetes' controller creates and removes its pods already, or would do it as the engine does.
func (s *snapshot) changesHands(ds *daemonSet, in *plan.Input, mutation bool) (h Handover, updatesAlone, differs bool) {
	h = Handover{Namespace: ds.Namespace, Name: ds.Name}
	onDelete := ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	_, names := ds.Annotations[view.PolicyAnnotation]
	h.WhenApplied = mutation && onDelete && names
	o := s.keeper(ds)
	if o == nil || o.Status.Phase == "" { // an object that only people have written to keeps nothing
		if s.meansWaves(ds) && !onDelete {
			h.Because = becauseUnmet
		}
		return h, true, h.WhenApplied || h.Because != ""
	}
	status := &o.Status
	h.Phase, h.Release = status.Phase, status.Release
	if status.Guard != nil {
		h.Held = status.Guard.Held
	}
	if status.Assists {
		h.NobodyUpdates = onDelete && (status.Policy != nil || status.Phase != rollout.Idle.String())
		return h, true, h.NobodyUpdates || h.WhenApplied
	}
	if status.Phase == rollout.Idle.String() && (status.Policy != nil || s.meansWaves(ds)) {
		h.Because, updatesAlone = idleBecause(o, in)
	}
	return h, updatesAlone && h.Held == 0, h.WhenApplied || status.Phase != rollout.Idle.String() || h.Held > 0 || h.Because != ""
}

// idleBecause returns Handover.Because for a DaemonSet that follows a policy, and of which no release is under way;
// empty: Kubernetes' controller would do what the engine does. What is kept may be old: the engine may have been away.
func idleBecause(o *view.DaemonSetRollout, in *plan.Input) (because string, updatesAlone bool) {
	status := &o.Status
	switch {
	case status.Target == "":
		return becauseUnmet, true
	case status.Target != in.Set.Hash:
		// New nodes get the stable revision from the engine, as long as there is a pod of it, or none at all.
		stable := func(p plan.Pod) bool { return p.Hash == status.Stable }
		return becauseChanged, len(in.Pods) > 0 && !slices.ContainsFunc(in.Pods, stable)
	case o.Spec.Paused, rests(status) && status.Reason == rollout.PauseRequested.String():
		return becausePaused, true
	case rests(status):
		return becauseShut, true
	}
	return "", false
}

// count counts what would happen on the nodes.
func (h *Handover) count(in *plan.Input, updatesAlone bool) {
	if h.WhenApplied {
		in.Set.Strategy = plan.RollingUpdate
	}
	var out plan.Plan
	plan.Make(in, &out)
	most, surge := in.Set.Budget(out.Status.Desired)
	h.AtATime = max(most, surge)
	for i := range out.Verdicts {
		v := &out.Verdicts[i]
		switch {
		case v.Desired && v.Pod != "" && !v.Updated && in.Set.Strategy == plan.RollingUpdate:
			h.Updates++
		case updatesAlone:
		case v.Desired && v.Pod == "":
			h.Additions++
		case !v.Desired && v.Misscheduled && len(v.Deletes()) > 0:
			h.Removals++
		}
	}
}

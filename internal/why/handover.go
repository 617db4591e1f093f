package why

import (
	"context"
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
}

// Moves reports whether pods would be replaced, removed or created.
func (h *Handover) Moves() bool { return h.Updates+h.Removals+h.Additions > 0 }

// Handovers returns what Kubernetes' own controller would do if the engine were removed now, for every DaemonSet of the
// namespace (empty: all) that it would treat differently. mutation means that the admission policy that makes
// DaemonSets OnDelete is removed as well. Then the manifest may say RollingUpdate, and counts when it is applied again.
// It reads the objects from the API server. Without the right to read the kept states of releases it fails.
func Handovers(ctx context.Context, client kubernetes.Interface, namespace string, mutation bool, now time.Time) ([]Handover, error) {
	s, err := gather(ctx, client, namespace)
	if err != nil {
		return nil, err
	}
	if s.unread != nil {
		return nil, s.unread // without reading them it cannot say that there are none
	}
	return s.handovers(mutation, now)
}

func (s *snapshot) handovers(mutation bool, now time.Time) (all []Handover, err error) {
	for i := range s.sets {
		ds := &s.sets[i]
		h, updatesAlone, differs := s.changesHands(ds, mutation)
		if !differs {
			continue
		}
		if err := s.handover(&h, ds, updatesAlone, now); err != nil {
			return nil, err
		}
		if h.Phase != "" || h.Moves() {
			all = append(all, h)
		}
	}
	return all, nil
}

// changesHands reports whether a DaemonSet would be treated differently. updatesAlone means that only its updates
// would: Kubernetes' controller creates and removes its pods already, or would do it as the engine does.
func (s *snapshot) changesHands(ds *daemonSet, mutation bool) (h Handover, updatesAlone, differs bool) {
	h = Handover{Namespace: ds.Namespace, Name: ds.Name}
	onDelete := ds.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	_, names := ds.Annotations[view.PolicyAnnotation]
	h.WhenApplied = mutation && onDelete && names
	status := s.keeperOf(ds)
	if status == nil {
		return h, true, h.WhenApplied
	}
	h.Phase, h.Release = status.Phase, status.Release
	if status.Guard != nil {
		h.Held = status.Guard.Held
	}
	if status.Assists {
		h.NobodyUpdates = onDelete && (status.Policy != nil || status.Phase != rollout.Idle.String())
		return h, true, h.NobodyUpdates || h.WhenApplied
	}
	return h, false, h.WhenApplied || status.Phase != rollout.Idle.String() || h.Held > 0
}

// handover counts what would happen on the nodes.
func (s *snapshot) handover(h *Handover, ds *daemonSet, updatesAlone bool, now time.Time) error {
	in, err := s.input(ds, now)
	if err != nil {
		return err
	}
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
	return nil
}

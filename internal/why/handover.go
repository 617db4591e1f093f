package why

import (
	"context"
	"time"

	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// Handover is what a controller that knows of no waves would do to a DaemonSet of which a release is under way, or whose
// pods the guard holds.
type Handover struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Phase is that of the release; Held is how many nodes' pods the guard holds.
	Phase   string `json:"phase"`
	Release int    `json:"release"`
	Held    int    `json:"held,omitempty"`
	// Updates, Removals and Additions count the nodes whose pods would be replaced, taken away and made; AtATime is how
	// many may be down at a time meanwhile.
	Updates   int `json:"updates"`
	Removals  int `json:"removals"`
	Additions int `json:"additions"`
	AtATime   int `json:"atATime"`
}

// Moves says that pods would go or come.
func (h *Handover) Moves() bool { return h.Updates+h.Removals+h.Additions > 0 }

// Handovers asks the API server what Kubernetes' own controller would do if it took over now, to every DaemonSet of the
// namespace (empty: all) that would be treated otherwise than now.
func Handovers(ctx context.Context, client kubernetes.Interface, namespace string, now time.Time) ([]Handover, error) {
	s, err := gather(ctx, client, namespace)
	if err != nil {
		return nil, err
	}
	if s.unread != nil {
		return nil, s.unread // who may not read them cannot say that there are none
	}
	return s.handovers(now)
}

func (s *snapshot) handovers(now time.Time) (all []Handover, err error) {
	for i := range s.sets {
		ds := &s.sets[i]
		status := s.keeperOf(ds)
		if status == nil {
			continue
		}
		h := Handover{Namespace: ds.Namespace, Name: ds.Name, Phase: status.Phase, Release: status.Release}
		if status.Guard != nil {
			h.Held = status.Guard.Held
		}
		if status.Phase == rollout.Idle.String() && h.Held == 0 {
			continue
		}
		if err := s.handover(&h, ds, now); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// handover counts what would become of the nodes.
func (s *snapshot) handover(h *Handover, ds *daemonSet, now time.Time) error {
	in, err := s.input(ds, now)
	if err != nil {
		return err
	}
	var out plan.Plan
	plan.Make(in, &out)
	most, surge := in.Set.Budget(out.Status.Desired)
	h.AtATime = max(most, surge)
	for i := range out.Verdicts {
		v := &out.Verdicts[i]
		switch {
		case v.Desired && v.Pod == "":
			h.Additions++
		case v.Desired && !v.Updated && in.Set.Strategy == plan.RollingUpdate:
			h.Updates++
		case !v.Desired && v.Misscheduled && len(v.Deletes()) > 0:
			h.Removals++
		}
	}
	return nil
}

package why

import (
	"context"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// Scene is one DaemonSet at a moment, for a caller that watches it and has all objects.
type Scene struct {
	set daemonSet
	of  snapshot
}

// NewScene takes the DaemonSet, the nodes, what is said about nodes that are not Ready (SaidOfNode), and the pods and
// revisions of the DaemonSet's namespace that its selector matches. It changes none of them.
func NewScene(ds *daemonSet, nodes []plan.Node, silent map[string]string, pods []*corev1.Pod, revisions []*view.Revision) *Scene {
	s := &Scene{*ds, snapshot{nodes: nodes, silent: silent, owned: map[types.UID][]*corev1.Pod{}, revisions: revisions}}
	for _, p := range pods {
		s.of.addPod(p)
	}
	return s
}

// Release adds the kept state of the DaemonSet's releases, and its revisions. It must be called before Rows.
func (s *Scene) Release(o *view.DaemonSetRollout, revisions []appsv1.ControllerRevision) {
	s.of.releases, s.of.keepers = map[types.NamespacedName]underWay{}, map[types.NamespacedName]*view.DaemonSetRollout{}
	s.of.addRelease(o, revisions)
}

// Rows returns the same rows as Ask, in the same order, without what only events tell and without commands. It sends
// no requests.
func (s *Scene) Rows(now time.Time) ([]Row, error) {
	rows, err := s.of.why(&s.set, now)
	if err != nil {
		return nil, err
	}
	s.of.readPods(rows)
	for i := range rows {
		rows[i].tellCause()
	}
	slices.SortFunc(rows, byInterest)
	return rows, nil
}

// Explain adds what events tell, as Ask does, to some of the rows. They must be from the last call of Rows. An error
// means that there may be more to tell.
func (s *Scene) Explain(ctx context.Context, client kubernetes.Interface, rows []Row, now time.Time) error {
	var g gaps
	if err := s.of.explain(ctx, client, &s.set, rows, now, &g); err != nil {
		return err
	}
	return g.first
}

// Revision returns the hash of the current revision, as of the last call of Rows.
func (s *Scene) Revision() string { return s.of.hash }

// Budget is how many nodes an update may have without a pod, or with two, at a time, and how many hold a part of that.
type Budget struct{ MaxUnavailable, MaxSurge, Used int }

// Budget returns the budget of the DaemonSet, as of the last call of Rows; zero if its strategy has none.
func (s *Scene) Budget() Budget { return s.of.budget }

package why

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
)

// Releases reads the records of releases in waves in a namespace (empty: in all). If the cluster does not have this
// kind of object, there are none. Without the right to read them it returns an error of the kind Forbidden.
func Releases(ctx context.Context, client kubernetes.Interface, namespace string) ([]view.DaemonSetRollout, error) {
	return listOurs[view.DaemonSetRollout](ctx, client, namespace, view.RolloutResource, "the state of releases")
}

// listOurs reads all objects of a kind of ours, as Releases does. what names them in errors.
func listOurs[T any](ctx context.Context, client kubernetes.Interface, namespace, resource, what string) ([]T, error) {
	ask := client.Discovery().RESTClient()
	if ask == nil {
		return nil, nil // a client for tests that has no REST client
	}
	at := path.Join("/apis", view.PolicyVersion)
	if namespace != "" {
		at = path.Join(at, "namespaces", namespace)
	}
	answer := ask.Get().AbsPath(path.Join(at, resource)).SetHeader("Accept", "application/json").Do(ctx)
	err := answer.Error() // which has the server's words, unlike that of Raw
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) && !served(ctx, ask) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	text, err := answer.Raw()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	var all struct {
		Items []T `json:"items"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return all.Items, nil
}

// addRelease adds what the guard holds, and a release that is under way, with the revision that its nodes had before.
func (s *snapshot) addRelease(o *view.DaemonSetRollout, revisions []appsv1.ControllerRevision) {
	at := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	s.keepers[at] = o
	state, err := view.RolloutState(o)
	if err != nil || state.Phase == rollout.Idle || state.Stable == state.Target {
		return
	}
	for i := range revisions {
		r := &revisions[i]
		if r.Namespace == o.Namespace && r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == state.Stable {
			s.releases[at] = underWay{o, state, r}
		}
	}
}

// underWay is a release in waves that has not ended.
type underWay struct {
	object *view.DaemonSetRollout
	state  rollout.State
	stable *appsv1.ControllerRevision
}

// keeper returns the object that keeps the state of the DaemonSet's releases; nil: there is none.
func (s *snapshot) keeper(ds *daemonSet) *view.DaemonSetRollout {
	o := s.keepers[types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}]
	if o == nil || !o.IsOf(ds.UID) {
		return nil
	}
	return o
}

// keeperOf returns the kept state of the DaemonSet's releases; nil: none is kept.
func (s *snapshot) keeperOf(ds *daemonSet) *view.DaemonSetRolloutStatus {
	o := s.keeper(ds)
	if o == nil {
		return nil
	}
	return &o.Status
}

// follow makes the plan follow what the engine has said about the DaemonSet's policy, if there is one. Beside another
// controller the engine creates nothing, outdated pods do not wait for a person to delete them, and a guard may hold
// some.
func (s *snapshot) follow(in *plan.Input, ds *daemonSet) {
	status := s.keeperOf(ds)
	if status == nil {
		return
	}
	if g := status.Guard; g != nil && g.Held > 0 {
		in.Guard = &plan.Guard{}
	}
	idle, reverted := status.Phase == rollout.Idle.String(), status.Reason == rollout.Reverted.String()
	switch {
	case status.Assists && in.Set.Strategy == plan.RollingUpdate, status.Reason == rollout.NotDriven.String():
		return // the cluster's DaemonSet controller follows only the strategy
	case idle && status.Policy == nil:
		return // so does the engine if there is no policy
	case status.Assists:
		in.Set.Assists, in.Set.MaxSurge = true, plan.Amount{}
	}
	switch {
	case rests(status):
		in.Set.Strategy = plan.OnDelete
	case idle || reverted:
		in.Set.Strategy, in.Set.Patient = plan.RollingUpdate, idle
	}
	in.Release = s.releaseOf(ds, &in.Set)
}

// rests reports whether nodes that have missed a release wait until a pause ends or a window opens.
func rests(status *view.DaemonSetRolloutStatus) bool {
	return status != nil && status.Phase == rollout.Idle.String() &&
		(status.Reason == rollout.PauseRequested.String() || status.Reason == rollout.WindowClosed.String())
}

// await explains, in a row whose outdated pod nobody deletes now, what the pod waits for.
func (r *Row) await(v *plan.Verdict, status *view.DaemonSetRolloutStatus) {
	if v.Reason == plan.WaitingForDeletion && (rests(status) || status != nil && status.Reason == rollout.NotObserved.String()) {
		r.Reason, r.Why, r.Change, r.Detail = plan.AwaitsWave.String(), plan.AwaitsWave.Sentence(), plan.AwaitsWave.Remedy(), status.Message
	}
}

// leave explains in a row what the cluster's DaemonSet controller has to do, if anything. There everynode is only
// responsible for outdated pods.
func (r *Row) leave(v *plan.Verdict) {
	switch v.Reason {
	case plan.Missing:
		r.Change = "The DaemonSet controller of the cluster creates it, not everynode."
	case plan.PodFailed, plan.PodSucceeded, plan.PodRefused, plan.Duplicate:
		r.Change = strings.TrimSpace(r.Change + " The DaemonSet controller of the cluster replaces it, not everynode.")
	case plan.NotSelected, plan.TaintEvicts:
		if v.Pod != "" {
			r.OK, r.rank, r.Change = false, waits, "The DaemonSet controller of the cluster removes the pod, not everynode."
		}
	}
}

// releaseOf returns the release of the DaemonSet as one that grants nothing more: only the engine knows which of the
// nodes whose turn has come is next. Nil: none is under way.
func (s *snapshot) releaseOf(ds *daemonSet, set *plan.Spec) *plan.Release {
	u, is := s.releases[types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}]
	if !is || !u.object.IsOf(ds.UID) || u.state.Target != set.Hash {
		return nil
	}
	old, err := view.AtRevision(ds, u.stable)
	if err != nil {
		return nil // the engine says this in the object's status
	}
	stable, then := *set, view.Spec(old, u.state.Stable)
	stable.Hash, stable.Generation, stable.Placement, stable.Scheduled = u.state.Stable, 0, then.Placement, then.Scheduled
	stable.Strategy, set.Strategy = plan.RollingUpdate, plan.RollingUpdate
	return &plan.Release{Number: u.state.Release, Stable: stable, Back: u.state.Back, StartWithin: 24 * time.Hour, Restarts: math.MaxUint8}
}

// stands returns the state of the DaemonSet's release, in words.
func (s *snapshot) stands(ds *daemonSet) string {
	u := s.releases[types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}]
	return fmt.Sprintf("release %d is %s", u.state.Release, u.state.Phase)
}

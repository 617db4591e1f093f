package why

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"everynode/internal/view"
)

// gaps are what the user may not read, and what is not known because of that, a sentence each. One kind of object has
// one sentence.
type gaps struct {
	said  []string
	kinds map[string]bool
	first error
}

// note makes an error of the kind Forbidden a gap, and returns every other error.
func (g *gaps) note(what, so string, err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	if g.first == nil {
		g.first = err
	}
	g.say(what, fmt.Sprintf("%s were not read, so %s: %v", what, so, err))
	return nil
}

func (g *gaps) say(what, sentence string) {
	if g.kinds == nil {
		g.kinds = map[string]bool{}
	}
	if !g.kinds[what] {
		g.said = append(g.said, sentence)
	}
	g.kinds[what] = true
}

// What is not known if a kind of object may not be read.
const (
	withoutRollouts = "nodes that wait for their wave in a release, or whose pods a guard holds, have the reasons of an update without a policy (the ClusterRole everynode-rollouts-view lets you read them)"
	withoutEvents   = "it is not known which writes were refused, and why pods do not start is known less exactly"
	withoutPods     = "it is not known which of them have a host port that a pod waits for"
)

// without notes what is missing about the releases of a DaemonSet: their kept state may not be read, or is of a version
// that says more.
func (g *gaps) without(s *snapshot, ds *daemonSet) {
	if s.unread != nil {
		_ = g.note("DaemonSetRollouts", withoutRollouts, s.unread) // gather has returned all other errors
	}
	if o := s.keeper(ds); o != nil {
		if _, err := view.RolloutState(o); err != nil {
			name := "the DaemonSetRollout " + ds.Namespace + "/" + ds.Name
			g.say(name, fmt.Sprintf("%s was not understood, so its nodes may have the reasons of an update without a policy: %v; is the engine newer than this everynode?", name, err))
		}
	}
}

// HasKinds reports whether the API server may have the kinds of releases in waves. A server refuses a user who may not
// read a kind before it looks whether the kind exists.
func HasKinds(ctx context.Context, client kubernetes.Interface) bool {
	ask := client.Discovery().RESTClient()
	return ask == nil || served(ctx, ask) // a client for tests may have no REST client
}

func served(ctx context.Context, ask rest.Interface) bool {
	return !apierrors.IsNotFound(ask.Get().AbsPath("/apis", view.PolicyVersion).Do(ctx).Error())
}

// Package lookout follows one DaemonSet (itself, its pods and revisions, and the nodes), says when what it has seen
// may be out of date, and makes of it what internal/fleetmap draws. It only lists and watches. While nothing changes
// in the cluster it does nothing.
package lookout

import (
	"context"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/view"
	"everynode/internal/why"
)

// Lookout is what is seen of one DaemonSet. It is safe for concurrent use.
type Lookout struct {
	*feed
	namespace, name string
	uid             types.UID // of the DaemonSet; one of the same name with another UID is a different one
	selector        string
	given           *rollout.Policy // used instead of the policy that the controller follows
	followed

	ask chan struct{} // has a value while there are new questions

	// The fields below are read and written with the feed's lock held.
	set       *appsv1.DaemonSet // nil: it was deleted, or replaced by another of its name
	nodes     map[string]node
	pods      map[string]*corev1.Pod
	revisions map[string]revision
	rollout   *view.DaemonSetRollout // nil: there is no report about a release
	policies  map[string]*rollout.Policy
	reached   map[string]step // by node
	scene     *why.Scene      // of the last picture
	asked     []why.Row       // events may explain more about these
	heardOf   map[string]told // by node
	memory                    // for a page: what a picture alone does not show
}

// node is what is stored about a node.
type node struct {
	plan.Node
	zone string
	said string // why it is not Ready, in the kubelet's words
}

// revision is a ControllerRevision, with what was parsed from it for the history and for people.
type revision struct {
	object *appsv1.ControllerRevision
	read   *view.Revision
	images []string
}

func readRevision(r *appsv1.ControllerRevision) revision {
	return revision{r, view.ReadRevision(r), view.RevisionImages(r)}
}

// Releases are the resources about releases in waves. Either may be nil, if the cluster does not have the kind or the
// user may not read it. Everything else is shown then.
type Releases struct {
	Rollouts, Policies dynamic.NamespaceableResourceInterface
}

// New returns a Lookout for the DaemonSet. Nodes are in the order of the given policy. Without one they are in the
// order of the policy that the controller follows, and otherwise by name.
func New(ctx context.Context, client kubernetes.Interface, releases Releases, namespace, name string, given *rollout.Policy) (*Lookout, error) {
	ds, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("no DaemonSet %q in namespace %q: `kubectl get daemonsets -A` lists them, -n names another namespace", name, namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("read DaemonSet %s/%s: %w", namespace, name, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("the selector of DaemonSet %s/%s: %w", namespace, name, err)
	}
	l := &Lookout{
		feed: newFeed(client), namespace: namespace, name: name, uid: ds.UID, selector: selector.String(), given: given,
		ask: make(chan struct{}, 1),
		set: ds, nodes: map[string]node{}, pods: map[string]*corev1.Pod{}, revisions: map[string]revision{},
		policies: map[string]*rollout.Policy{}, reached: map[string]step{}, heardOf: map[string]told{},
	}
	l.followed = releases.in(ctx, client.Discovery(), namespace, metav1.ListOptions{FieldSelector: "metadata.name=" + name}, given == nil)
	l.expect(l.sources())
	return l, nil
}

// Read lists everything once. It is used in place of Follow.
func (l *Lookout) Read(ctx context.Context) error {
	for _, s := range l.sources() {
		if err := s.read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Follow keeps the Lookout up to date until ctx ends.
func (l *Lookout) Follow(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range l.sources() {
		all.Go(func() { s.follow(ctx) })
	}
	all.Go(func() { answer(ctx, l.ask, l) })
	all.Wait()
}

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

// revokedNodes is the ConfigMap in kube-system that has a key for each node whose
// credentials are not accepted any more.
const revokedNodes = "everynode-revoked-nodes"

// RevokeNode makes the API servers refuse all that comes with the credentials of a
// node, whoever has them and whatever they are renewed to; or, with undo, accept
// them again.
func RevokeNode(ctx context.Context, client kubernetes.Interface, name string, undo bool) error {
	if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		return fmt.Errorf("%q is not the name of a node: %s", name, strings.Join(wrong, "; "))
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	// Somebody else may revoke another at the same moment.
	again := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	err := retry.OnError(retry.DefaultRetry, again, func() error {
		list, err := maps.Get(ctx, revokedNodes, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && !undo {
			list = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: revokedNodes}, Data: map[string]string{name: time.Now().UTC().Format(time.RFC3339)}}
			_, err = maps.Create(ctx, list, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		if _, there := list.Data[name]; there != undo {
			if undo {
				return errNotRevoked
			}
			return nil
		}
		if undo {
			delete(list.Data, name)
		} else {
			if list.Data == nil {
				list.Data = map[string]string{}
			}
			list.Data[name] = time.Now().UTC().Format(time.RFC3339)
		}
		_, err = maps.Update(ctx, list, metav1.UpdateOptions{})
		return err
	})
	if errors.Is(err, errNotRevoked) || undo && apierrors.IsNotFound(err) {
		return fmt.Errorf("node %s is not revoked", name)
	}
	if err != nil {
		return fmt.Errorf("change the list of revoked nodes: %w", err)
	}
	return nil
}

var errNotRevoked = errors.New("not revoked")

// nodeGate is the first authorizer of an API server: it denies nodes that are
// revoked, and has no opinion about anybody else. Until it knows which ones are,
// nodes wait.
type nodeGate struct {
	known chan struct{} // closed when names is filled

	mu    sync.RWMutex
	names map[string]bool
}

func newNodeGate() *nodeGate { return &nodeGate{known: make(chan struct{})} }

// before returns the gate and, behind it, another authorizer.
func (g *nodeGate) before(next authorizer.Authorizer) (authorizer.Authorizer, error) {
	return union.New(union.NamedAuthorizer{AuthorizerName: "everynode-revoked", Authorizer: g},
		union.NamedAuthorizer{AuthorizerName: "everynode-others", Authorizer: next})
}

// Authorize denies what a revoked node asks.
func (g *nodeGate) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	who := a.GetUser()
	if who == nil || !slices.Contains(who.GetGroups(), user.NodesGroup) {
		return authorizer.DecisionNoOpinion, "", nil
	}
	select {
	case <-g.known:
	case <-ctx.Done():
		return authorizer.DecisionDeny, "it is not known yet which nodes are revoked", ctx.Err()
	}
	name := strings.TrimPrefix(who.GetName(), nodeUserPrefix)
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.names[name] {
		return authorizer.DecisionDeny, fmt.Sprintf("node %s was revoked; to take that back: everynode node revoke %s --undo", name, name), nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// ConditionsAwareAuthorize is Authorize: the gate knows no conditions.
func (g *nodeGate) ConditionsAwareAuthorize(ctx context.Context, a authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(g.Authorize(ctx, a))
}

// EvaluateConditions refuses: the gate knows no conditions.
func (g *nodeGate) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// run watches the list until ctx ends.
func (g *nodeGate) run(ctx context.Context, loopback *rest.Config) error {
	client, err := kubernetes.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make a client for the list of revoked nodes: %w", err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespaceSystem),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", revokedNodes).String()
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	set := func(obj any) { g.set(obj.(*corev1.ConfigMap).Data) }
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: set, UpdateFunc: func(_, obj any) { set(obj) }, DeleteFunc: func(any) { g.set(nil) },
	})
	if err != nil {
		return fmt.Errorf("watch the list of revoked nodes: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		close(g.known)
	}
	<-ctx.Done()
	return nil
}

func (g *nodeGate) set(list map[string]string) {
	names := map[string]bool{}
	for name := range list {
		names[name] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.names = names
}

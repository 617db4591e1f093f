package admission

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// What the API server knows about a node's certificate besides the name: the keyHash of its
// key, and when it was issued, in seconds. Requests for certificates carry it along, so
// whoever decides about a renewal knows which certificate was used to ask for it.
const (
	certificateKeyExtra    = "everynode.io/certificate-key"
	certificateIssuedExtra = "everynode.io/certificate-issued"
	// signerBackdate is how long before its issue a certificate of Kubernetes' signer becomes valid.
	signerBackdate = 5 * time.Minute
)

// Certificates is an authenticator that adds to each node the certificate by which it was authenticated.
type Certificates struct{ next authenticator.Request }

// NewCertificates returns an authenticator that adds certificates to what next returns.
func NewCertificates(next authenticator.Request) Certificates { return Certificates{next} }

// AuthenticateRequest calls the next authenticator and, if a node was authenticated, adds its certificate.
func (n Certificates) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	response, ok, err := n.next.AuthenticateRequest(req)
	if err != nil || !ok || req.TLS == nil || len(req.TLS.PeerCertificates) == 0 || nodeName(response.User) == "" {
		return response, ok, err
	}
	leaf, who := req.TLS.PeerCertificates[0], response.User
	if leaf.Subject.CommonName != who.GetName() {
		return response, ok, nil // it was authenticated by something else
	}
	extra := maps.Clone(who.GetExtra())
	if extra == nil {
		extra = map[string][]string{}
	}
	extra[certificateKeyExtra] = []string{keyHash(leaf.RawSubjectPublicKeyInfo)}
	extra[certificateIssuedExtra] = []string{strconv.FormatInt(leaf.NotBefore.Add(signerBackdate).Unix(), 10)}
	known := *response
	known.User = &user.DefaultInfo{Name: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: extra}
	return &known, true, nil
}

// certificateIn returns what is known about the certificate of a node. One that does not say when it was issued is older
// than any other.
func certificateIn[V ~[]string](extra map[string]V) (key string, issued time.Time, known bool) {
	keys, times := extra[certificateKeyExtra], extra[certificateIssuedExtra]
	if len(keys) != 1 || len(times) != 1 {
		return "", time.Time{}, false
	}
	if seconds, err := strconv.ParseInt(times[0], 10, 64); err == nil {
		issued = time.Unix(seconds, 0)
	}
	return keys[0], issued, true
}

// nodeName returns the name of a node; "" for other users.
func nodeName(who user.Info) string {
	if who == nil || !slices.Contains(who.GetGroups(), user.NodesGroup) {
		return ""
	}
	return strings.TrimPrefix(who.GetName(), nodeUserPrefix)
}

// Gate is the first authorizer of an API server: it denies requests of nodes that are revoked,
// of pods on them, and of nodes whose name was given to another machine since. It has no opinion
// about anybody else. Until it knows these lists, the requests of all nodes and their pods wait.
type Gate struct {
	known chan struct{} // closed when both lists are filled

	mu      sync.RWMutex
	revoked map[string]bool
	given   map[string]map[string]given // by ConfigMap and name
}

// NewGate returns a gate that does not know the lists yet: Run reads them.
func NewGate() *Gate {
	return &Gate{known: make(chan struct{}), given: map[string]map[string]given{}}
}

// Before returns the gate and, behind it, another authorizer.
func (g *Gate) Before(next authorizer.Authorizer) (authorizer.Authorizer, error) {
	return union.New(union.NamedAuthorizer{AuthorizerName: "everynode-revoked", Authorizer: g},
		union.NamedAuthorizer{AuthorizerName: "everynode-others", Authorizer: next})
}

// Authorize denies requests of nodes that are revoked or replaced, and requests with tokens of
// pods on revoked nodes.
func (g *Gate) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	who := a.GetUser()
	if who == nil {
		return authorizer.DecisionNoOpinion, "", nil
	}
	name, of := nodeName(who), who.GetExtra()[serviceaccount.NodeNameKey]
	if name == "" && len(of) == 0 {
		return authorizer.DecisionNoOpinion, "", nil
	}
	select {
	case <-g.known:
	case <-ctx.Done():
		return authorizer.DecisionDeny, "the list of revoked nodes is not known yet", ctx.Err()
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, node := range of {
		if g.revoked[node] {
			return authorizer.DecisionDeny, fmt.Sprintf("node %s, on which this pod ran, was revoked", node), nil
		}
	}
	if reason := g.refuses(name, a, time.Now()); reason != "" {
		return authorizer.DecisionDeny, reason, nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// refuses returns why the gate denies a node's request; "" if it does not.
func (g *Gate) refuses(name string, a authorizer.Attributes, now time.Time) string {
	if g.revoked[name] {
		return fmt.Sprintf("node %s was revoked; to undo that: everynode node revoke %s --undo", name, name)
	}
	owner, there := g.given[GivenPart(name)][name]
	if name == "" || !there {
		return ""
	}
	key, issued, known := certificateIn(a.GetUser().GetExtra())
	if !known {
		return "" // somebody who may act for the node, without its certificate
	}
	if !owner.accepts(key, issued) {
		return fmt.Sprintf("the name %s was given to another machine at %s, and this certificate belongs to the previous one", name, owner.at.UTC().Format(time.RFC3339))
	}
	if renews := a.GetResource() == "certificatesigningrequests" && a.GetSubresource() == "selfnodeclient"; renews && now.Before(owner.at.Add(changeoverTime)) {
		return fmt.Sprintf("the name %s was given just now: its certificate can be renewed in a minute", name)
	}
	return ""
}

// ConditionsAwareAuthorize is Authorize: the gate does not support conditions.
func (g *Gate) ConditionsAwareAuthorize(ctx context.Context, a authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(g.Authorize(ctx, a))
}

// EvaluateConditions denies: the gate does not support conditions.
func (g *Gate) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// Run watches the lists until ctx ends.
func (g *Gate) Run(ctx context.Context, loopback *rest.Config) error {
	client, err := kubernetes.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make a client for the lists of nodes: %w", err)
	}
	revoked := watchConfigMaps(client, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", RevokedNodes).String()
	})
	names := watchConfigMaps(client, func(o *metav1.ListOptions) { o.LabelSelector = givenLabel })
	synced := []cache.InformerSynced{}
	for factory, set := range map[informers.SharedInformerFactory]func(*corev1.ConfigMap, map[string]string){revoked: g.setRevoked, names: g.setGiven} {
		handler, err := factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { set(obj.(*corev1.ConfigMap), obj.(*corev1.ConfigMap).Data) },
			UpdateFunc: func(_, obj any) { set(obj.(*corev1.ConfigMap), obj.(*corev1.ConfigMap).Data) },
			DeleteFunc: func(obj any) {
				if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = gone.Obj
				}
				set(obj.(*corev1.ConfigMap), nil)
			},
		})
		if err != nil {
			return fmt.Errorf("watch the lists of nodes: %w", err)
		}
		synced = append(synced, handler.HasSynced)
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		close(g.known)
	}
	<-ctx.Done()
	return nil
}

// watchConfigMaps makes informers of some ConfigMaps of kube-system.
func watchConfigMaps(client kubernetes.Interface, which func(*metav1.ListOptions)) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespaceSystem), informers.WithTweakListOptions(which))
}

func (g *Gate) setRevoked(_ *corev1.ConfigMap, list map[string]string) {
	revoked := map[string]bool{}
	for name := range list {
		revoked[name] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revoked = revoked
}

func (g *Gate) setGiven(part *corev1.ConfigMap, list map[string]string) {
	names := map[string]given{}
	for name, text := range list {
		owner, err := parseGiven(text)
		if err != nil {
			klog.ErrorS(err, "Ignoring a line of a ConfigMap", "configMap", klog.KObj(part), "node", name)
			continue
		}
		names[name] = owner
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.given[part.Name] = names
}

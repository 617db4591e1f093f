package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// The manifests with the engine's rights: in any cluster, and inside `everynode
// server`.
const (
	deployedRoles = "../../deploy/rbac/roles.yaml"
	serverRoles   = "../controlplane/bootstrap.yaml"
)

// account is the account of the engine: bound to the roles of deploy/ and to
// nothing else.
func account() rest.ImpersonationConfig {
	return rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:everynode-controller",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}}
}

// roles is a ClusterRole and a Role with the same name.
type roles struct {
	cluster rbacv1.ClusterRole
	lease   rbacv1.Role
}

// readRoles reads the roles of that name from a file with many objects.
func readRoles(t *testing.T, file, name string) (r roles) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		raw := runtime.RawExtension{}
		switch err := docs.Decode(&raw); {
		case errors.Is(err, io.EOF):
			if r.cluster.Name == "" || r.lease.Name == "" {
				t.Fatalf("%s has no ClusterRole and Role called %s", file, name)
			}
			return r
		case err != nil:
			t.Fatalf("%s: %v", file, err)
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw.Raw, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		switch o := object.(type) {
		case *rbacv1.ClusterRole:
			if o.Name == name {
				r.cluster = *o
			}
		case *rbacv1.Role:
			if o.Name == name {
				r.lease = *o
			}
		}
	}
}

// grant binds the roles to the account, and waits until they have taken effect.
func (r roles) grant(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	rbac, ctx := client.RbacV1(), t.Context()
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: account().UserName}}
	_, err := rbac.ClusterRoles().Update(ctx, &r.cluster, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = rbac.ClusterRoles().Create(ctx, &r.cluster, metav1.CreateOptions{})
	}
	must(t, err)
	_, err = rbac.Roles(r.lease.Namespace).Update(ctx, &r.lease, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = rbac.Roles(r.lease.Namespace).Create(ctx, &r.lease, metav1.CreateOptions{})
	}
	must(t, err)
	meta := metav1.ObjectMeta{Name: r.cluster.Name, Namespace: r.lease.Namespace}
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: meta.Name}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		must(t, err)
	}
	_, err = rbac.RoleBindings(meta.Namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		must(t, err)
	}
	for want := range r.rights() {
		r.await(t, client, want)
	}
}

// await waits until the authorizer, which watches roles, grants the right.
func (r roles) await(t *testing.T, client kubernetes.Interface, want right) {
	t.Helper()
	path, sub, _ := strings.Cut(want.resource, "/")
	plain, group, _ := strings.Cut(path, ".")
	ask := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: account().UserName, Groups: account().Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: r.lease.Namespace,
			Verb: want.verb, Group: group, Resource: plain, Subresource: sub, Name: want.name},
	}}
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		answer, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, ask, metav1.CreateOptions{})
		return err == nil && answer.Status.Allowed, err
	})
	if err != nil {
		t.Fatalf("%s is granted to %s and not allowed: %v", want, account().UserName, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// right is one verb on one resource ("daemonsets.apps/status"). An empty name
// means any object.
type right struct{ verb, resource, name string }

func (r right) String() string { return strings.TrimSpace(r.verb + " " + r.resource + " " + r.name) }

// covers reports whether r allows what was asked.
func (r right) covers(asked right) bool {
	return r.verb == asked.verb && r.resource == asked.resource && (r.name == "" || r.name == asked.name)
}

func nameOf(group, name, sub string) string {
	if group != "" {
		name += "." + group
	}
	if sub != "" {
		name += "/" + sub
	}
	return name
}

// rights returns the rights in the roles.
func (r roles) rights() sets.Set[right] {
	return rightsOf(slices.Concat(r.cluster.Rules, r.lease.Rules))
}

func rightsOf(rules []rbacv1.PolicyRule) sets.Set[right] {
	all := sets.New[right]()
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, res := range rule.Resources {
				plain, sub, _ := strings.Cut(res, "/")
				for _, verb := range rule.Verbs {
					for _, name := range names {
						all.Insert(right{verb, nameOf(group, plain, sub), name})
					}
				}
			}
		}
	}
	return all
}

// guard sits between the engine and the API server. It records what the engine
// asks for and what is denied because a right is missing.
type guard struct {
	mu     sync.Mutex
	asked  sets.Set[right]
	denied []string
	twice  sets.Set[string] // as in what: the next such request is sent twice, and the second answer counts
	old    bool             // the server does not stream lists, as before Kubernetes 1.34
}

func newGuard() *guard { return &guard{asked: sets.New[right](), twice: sets.New[string]()} }

// put makes the config's requests those of the account, and sends them through
// the guard.
func (g *guard) put(config *rest.Config) {
	config.Impersonate = account()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) { return g.through(next, req) })
	})
}

func (g *guard) through(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	g.note(req)
	g.mu.Lock()
	twice, old := g.twice.Has(what(req)), g.old
	g.twice.Delete(what(req))
	g.mu.Unlock()
	if old && req.URL.Query().Get("sendInitialEvents") != "" {
		return status(req, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden"), nil
	}
	if twice {
		if err := repeat(next, req); err != nil {
			return nil, err
		}
	}
	resp, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusForbidden {
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		// Quotas and webhooks forbid too, but in other words.
		if bytes.Contains(body, []byte(" cannot ")) {
			g.mu.Lock()
			g.denied = append(g.denied, fmt.Sprintf("%s %s: %q", req.Method, req.URL.Path, body))
			g.mu.Unlock()
		}
	}
	return resp, nil
}

// repeat sends a request once, and leaves it ready to be sent again.
func repeat(next http.RoundTripper, req *http.Request) error {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	first := req.Clone(req.Context())
	first.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := next.RoundTrip(first)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (g *guard) note(req *http.Request) {
	factory := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	info, err := factory.NewRequestInfo(req)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil:
		g.denied = append(g.denied, fmt.Sprintf("%s %s: what it asks for cannot be told: %v", req.Method, req.URL, err))
	case info.IsResourceRequest:
		g.asked.Insert(right{info.Verb, nameOf(info.APIGroup, info.Resource, info.Subresource), info.Name})
	}
}

// denials returns what was denied so far.
func (g *guard) denials() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.denied
}

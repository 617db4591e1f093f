package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/delivery"
	"everynode/internal/view"
)

// permissionEvery is how often missing permissions are asked for again.
const permissionEvery = 30 * time.Second

// permissions returns everything that an engine with this configuration requests from the API
// server.
func (c Config) permissions() (all []authorizationv1.ResourceAttributes) {
	add := func(in authorizationv1.ResourceAttributes, verbs string) {
		in.Resource, in.Subresource, _ = strings.Cut(in.Resource, "/")
		in.Version = "*"
		for verb := range strings.FieldsSeq(verbs) {
			in.Verb = verb
			all = append(all, in)
		}
	}
	of := func(group, resource string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Group: group, Resource: resource}
	}
	add(of("apps", "daemonsets"), "get list watch")
	if c.Assist {
		add(of("apps", "controllerrevisions"), "list watch")
		add(of("", "pods"), "delete get list watch")
	} else {
		add(of("apps", "daemonsets/status"), "update")
		add(of("apps", "daemonsets/finalizers"), "update") // for owner references that block deletion
		add(of("apps", "controllerrevisions"), "create delete get list update watch")
		add(of("", "pods"), "create delete get list patch watch")
	}
	add(of("", "nodes"), "get list watch")
	add(of("", "events"), "create patch")
	group := view.ReleaseResource(view.PolicyResource).Group
	add(of(group, view.PolicyResource), "list watch")
	add(of(group, view.RolloutResource), "create get list watch")
	add(of(group, view.RolloutResource+"/status"), "update")
	one := func(group, resource, name string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Namespace: c.LeaseNamespace, Group: group, Resource: resource, Name: name}
	}
	if c.LeaderElect {
		add(one("coordination.k8s.io", "leases", ""), "create")
		add(one("coordination.k8s.io", "leases", c.LeaseName), "get update watch")
	}
	if c.Alone {
		add(one("apps", "daemonsets", ""), "create")
		add(one("apps", "daemonsets", probeName), "delete")
	}
	return all
}

// checkPermissions asks the API server which permissions this process lacks: when it starts, as
// long as something is missing, and after a request was forbidden, which may have had another
// reason. It ends with ctx.
func (m *Monitor) checkPermissions(ctx context.Context, cfg Config, client kubernetes.Interface) {
	var last []string
	for first := true; ctx.Err() == nil; first = false {
		if denied := m.requests.wasDenied(); first || denied || len(last) > 0 {
			missing, err := askPermissions(ctx, cfg, client)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				cfg.Log.Info("the API server does not say which permissions are missing", "err", err)
			case !slices.Equal(missing, last):
				cfg.Log.Warn("the permissions have changed; continuing with what is permitted", "missing", strings.Join(missing, ", "))
				last = missing
			}
			m.mu.Lock()
			m.missing = last
			m.mu.Unlock()
		}
		sleep(ctx, permissionEvery)
	}
}

// askPermissions returns the missing permissions, as "verb resource".
func askPermissions(ctx context.Context, cfg Config, client kubernetes.Interface) (missing []string, err error) {
	for _, p := range cfg.permissions() {
		allowed, err := mayI(ctx, client, p)
		if err != nil {
			return nil, err
		}
		if !allowed {
			missing = append(missing, describe(p))
		}
	}
	return missing, nil
}

func mayI(ctx context.Context, client kubernetes.Interface, p authorizationv1.ResourceAttributes) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, delivery.PromptTimeout)
	defer cancel()
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &p},
	}, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) {
		return true, nil // even this request is not permitted: other requests will show what is missing
	}
	if err != nil {
		return false, fmt.Errorf("asking for %s: %w", describe(p), err)
	}
	return answer.Status.Allowed, nil
}

func describe(p authorizationv1.ResourceAttributes) string {
	what := p.Verb + " " + p.Resource
	if p.Subresource != "" {
		what += "/" + p.Subresource
	}
	if p.Namespace != "" {
		what += " in " + p.Namespace
	}
	return what
}

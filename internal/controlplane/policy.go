package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	schedulingapi "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// kube-apiserver creates the standing roles and priority classes in two hooks,
// which wait for a second before they look, and then go through them one by one.
// All that time it is not ready. Here a hook of our own creates what is missing,
// without delay and concurrently. Kubernetes' own hooks follow it in the background:
// they also correct existing objects, which nobody has to wait for.
const (
	policyHook   = "everynode/bootstrap-policy"
	policyAtOnce = 16
)

// hastenPolicy replaces Kubernetes' own hooks with ours.
func hastenPolicy(config *genericapiserver.Config) error {
	config.DisabledPostStartHooks.Insert(rbacrest.PostStartHookName, schedulingrest.PostStartHookName)
	return config.AddPostStartHook(policyHook, func(c genericapiserver.PostStartHookContext) error {
		return fillPolicy(c.Context, c.LoopbackClientConfig)
	})
}

// reconcilePolicy runs Kubernetes' own hooks, and ends with ctx.
func reconcilePolicy(ctx context.Context, loopback *rest.Config) error {
	group, hookCtx := errgroup.WithContext(ctx)
	for _, provider := range []genericapiserver.PostStartHookProvider{rbacrest.RESTStorageProvider{}, schedulingrest.RESTStorageProvider{}} {
		name, hook, err := provider.PostStartHook()
		if err != nil {
			return fmt.Errorf("make the hook %s: %w", name, err)
		}
		group.Go(func() error {
			if err := hook(genericapiserver.PostStartHookContext{Context: hookCtx, LoopbackClientConfig: loopback}); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// standing is an object that every cluster has from the start.
type standing struct {
	client              rest.Interface
	resource, namespace string
	object              runtime.Object
}

// fillPolicy creates the standing objects that are missing.
func fillPolicy(ctx context.Context, loopback *rest.Config) error {
	config := rest.CopyConfig(loopback)
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client for the standing roles: %w", err)
	}
	namespaces, others := policy(client)
	for _, objects := range [][]standing{namespaces, others} {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(policyAtOnce)
		for _, o := range objects {
			group.Go(func() error { return o.make(ctx) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// make creates the object if it is missing. It retries for a while what fails:
// parts of the API server may not be ready yet.
func (o standing) make(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, bootstrapTime, true, func(ctx context.Context) (bool, error) {
		last = o.client.Post().NamespaceIfScoped(o.namespace, o.namespace != "").Resource(o.resource).Body(o.object).Do(ctx).Error()
		return last == nil || apierrors.IsAlreadyExists(last), nil
	})
	if err != nil {
		return fmt.Errorf("make one of the standing %s: %w", o.resource, errors.Join(err, last))
	}
	return nil
}

// policy returns the objects that every Kubernetes cluster must have: the namespaces
// of roles, which must come first, and the rest, in any order.
func policy(client kubernetes.Interface) (namespaces, others []standing) {
	rbac := client.RbacV1().RESTClient()
	add := func(c rest.Interface, resource, namespace string, object runtime.Object) {
		others = append(others, standing{c, resource, namespace, object})
	}
	for _, role := range slices.Concat(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()) {
		add(rbac, "clusterroles", "", &role)
	}
	for _, binding := range slices.Concat(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()) {
		add(rbac, "clusterrolebindings", "", &binding)
	}
	for namespace, roles := range bootstrappolicy.NamespaceRoles() {
		namespaces = append(namespaces, standing{client.CoreV1().RESTClient(), "namespaces", "",
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}})
		for _, role := range roles {
			add(rbac, "roles", namespace, &role)
		}
	}
	for namespace, bindings := range bootstrappolicy.NamespaceRoleBindings() {
		for _, binding := range bindings {
			add(rbac, "rolebindings", namespace, &binding)
		}
	}
	for _, class := range schedulingapi.SystemPriorityClasses() {
		add(client.SchedulingV1().RESTClient(), "priorityclasses", "", class)
	}
	return namespaces, others
}

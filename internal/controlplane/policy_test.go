package controlplane

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	lostRole    = "system:kube-dns"
	changedRole = "system:basic-user"
)

// checkPolicy checks that every standing object exists from the first moment.
// Then it deletes one and changes another, for checkPolicyAgain.
func checkPolicy(t *testing.T, admin kubernetes.Interface) {
	namespaces, others := policy(admin)
	for _, o := range append(namespaces, others...) {
		name := o.object.(metav1.ObjectMetaAccessor).GetObjectMeta().GetName()
		err := o.client.Get().NamespaceIfScoped(o.namespace, o.namespace != "").Resource(o.resource).Name(name).Do(t.Context()).Error()
		if err != nil {
			t.Errorf("%s %s: %v", o.resource, name, err)
		}
	}
	if len(others) < 100 {
		t.Errorf("only %d standing objects", len(others))
	}
	roles := admin.RbacV1().ClusterRoles()
	if err := roles.Delete(t.Context(), lostRole, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	role, err := roles.Get(t.Context(), changedRole, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = nil
	if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
}

// checkPolicyAgain checks that a start creates what is missing before it is ready,
// and soon after repairs what was changed.
func checkPolicyAgain(t *testing.T, admin kubernetes.Interface) {
	roles := admin.RbacV1().ClusterRoles()
	if _, err := roles.Get(t.Context(), lostRole, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	eventually(t, "the rules of "+changedRole+" are there again", func(ctx context.Context) (bool, error) {
		role, err := roles.Get(ctx, changedRole, metav1.GetOptions{})
		return err == nil && len(role.Rules) > 0, err
	})
}

package compat

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const selectedNode = "volume.kubernetes.io/selected-node"

// TestClaimsOfCSIDisk: the provisioner on a node, whose role lets it update every claim, can only return those of its own
// node to the scheduler.
func TestClaimsOfCSIDisk(t *testing.T) {
	l := newLab(t)
	l.installFile("../../examples/agents/csi-disk/daemonset.yaml", func(o *unstructured.Unstructured) bool {
		return strings.HasPrefix(o.GetKind(), "ValidatingAdmissionPolicy")
	})
	l.createClaim()
	update := func(client kubernetes.Interface, edit func(*corev1.PersistentVolumeClaim)) error {
		claims := client.CoreV1().PersistentVolumeClaims(namespace)
		claim, err := l.client.CoreV1().PersistentVolumeClaims(namespace).Get(t.Context(), "data", metav1.GetOptions{})
		l.do(err)
		edit(claim)
		_, err = claims.Update(t.Context(), claim, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	giveBack := func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, selectedNode) }
	label := func(c *corev1.PersistentVolumeClaim) { c.Labels = map[string]string{"mine": "yes"} }
	here, elsewhere := l.provisioner("node-1"), l.provisioner("node-2")
	l.until("the policy works", func() bool { return refusedClaim(update(here, label)) })
	if err := update(here, giveBack); err != nil {
		t.Errorf("its own claim cannot go back to the scheduler: %v", err)
	}
	if err := update(l.client, label); err != nil {
		t.Errorf("the policy is about others, too: %v", err)
	}
	if err := update(elsewhere, giveBack); !refusedClaim(err) {
		t.Errorf("the provisioner of another node: %v", err)
	}
	for what, edit := range map[string]func(*corev1.PersistentVolumeClaim){
		"finalizers":           func(c *corev1.PersistentVolumeClaim) { c.Finalizers = nil },
		"a label":              func(c *corev1.PersistentVolumeClaim) { c.Labels = nil },
		"another annotation":   func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, "team") },
		"a new annotation":     func(c *corev1.PersistentVolumeClaim) { c.Annotations["mine"] = "yes" },
		"an annotation's text": func(c *corev1.PersistentVolumeClaim) { c.Annotations["team"] = "mine" },
		"another node":         func(c *corev1.PersistentVolumeClaim) { c.Annotations[selectedNode] = "node-2" },
		"an owner": func(c *corev1.PersistentVolumeClaim) {
			c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "mine", UID: "1"}}
		},
		"the volume": func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "theft" },
	} {
		if err := update(here, func(c *corev1.PersistentVolumeClaim) { giveBack(c); edit(c) }); !refusedClaim(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func refusedClaim(err error) bool {
	return err != nil && strings.Contains(err.Error(), "returns claims of its node to the scheduler")
}

// provisioner returns a client with the token of the provisioner's pod on a node. Rights are those of an administrator,
// so that only a policy refuses something.
func (l *lab) provisioner(node string) kubernetes.Interface {
	l.t.Helper()
	config := rest.CopyConfig(l.config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:csi-disk:csi-disk", Groups: []string{"system:masters"},
		Extra: map[string][]string{"authentication.kubernetes.io/node-name": {node}},
	}
	client, err := kubernetes.NewForConfig(config)
	l.do(err)
	return client
}

// createClaim creates a claim whose pod was placed on node-1.
func (l *lab) createClaim() {
	l.t.Helper()
	class, claims := "disk", l.client.CoreV1().PersistentVolumeClaims(namespace)
	_, err := claims.Create(l.t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: "data", Labels: map[string]string{"app": "db"}, Finalizers: []string{"example.com/kept"},
			Annotations: map[string]string{selectedNode: "node-1", "team": "storage"},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	l.do(err)
	l.t.Cleanup(func() {
		ctx := context.WithoutCancel(l.t.Context())
		claim, err := claims.Get(ctx, "data", metav1.GetOptions{})
		if err == nil {
			claim.Finalizers = nil // nobody here removes the one that protects claims in use
			_, err = claims.Update(ctx, claim, metav1.UpdateOptions{})
		}
		if err == nil {
			err = claims.Delete(ctx, "data", metav1.DeleteOptions{})
		}
		if err != nil {
			l.t.Error(err)
		}
	})
}

package controlplane

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
)

// defaultKeys returns the annotations that mark a class of a kind as the default, for objects that name no class. If
// several StorageClasses have the mark, the newest counts. If several IngressClasses have it, the API server refuses
// an Ingress that names none.
func defaultKeys(kind string) []string {
	switch kind {
	case "StorageClass":
		// The second is its name in beta, which the API server still honors.
		return []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}
	case "IngressClass":
		return []string{networkingv1.AnnotationIsDefaultIngressClass}
	}
	return nil
}

// yieldDefault removes the default mark from a class of ours if the cluster has another default: otherwise new claims
// or Ingresses would get ours from then on.
func yieldDefault(ctx context.Context, client kubernetes.Interface, class *unstructured.Unstructured) error {
	keys := defaultKeys(class.GetKind())
	if len(keys) == 0 {
		return nil
	}
	others, err := defaultClasses(ctx, client, class.GetKind(), keys)
	if err != nil {
		return fmt.Errorf("look for another default %s: %w", class.GetKind(), err)
	}
	for _, name := range others {
		if name != class.GetName() {
			annotations := class.GetAnnotations()
			delete(annotations, keys[0])
			class.SetAnnotations(annotations)
		}
	}
	return nil
}

// defaultClasses returns the names of the classes of a kind that are marked by one of keys.
func defaultClasses(ctx context.Context, client kubernetes.Interface, kind string, keys []string) (names []string, err error) {
	add := func(o metav1.Object) {
		for _, key := range keys {
			if o.GetAnnotations()[key] == "true" {
				names = append(names, o.GetName())
			}
		}
	}
	if kind == "IngressClass" {
		var list *networkingv1.IngressClassList
		if list, err = client.NetworkingV1().IngressClasses().List(ctx, metav1.ListOptions{}); err == nil {
			for i := range list.Items {
				add(&list.Items[i])
			}
		}
		return names, err
	}
	var list *storagev1.StorageClassList
	if list, err = client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{}); err == nil {
		for i := range list.Items {
			add(&list.Items[i])
		}
	}
	return names, err
}

package controlplane

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
)

// defaultClassKey annotates the StorageClass of claims that name none. Of several, the
// newest counts.
const defaultClassKey = "storageclass.kubernetes.io/is-default-class"

// yieldDefault has a class of ours not be the default one where another is: claims
// would go to ours from then on.
func yieldDefault(ctx context.Context, client kubernetes.Interface, class *unstructured.Unstructured) error {
	there, err := client.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("look for another default StorageClass: %w", err)
	}
	for _, other := range there.Items {
		if other.Name != class.GetName() && isDefaultClass(other) {
			annotations := class.GetAnnotations()
			delete(annotations, defaultClassKey)
			class.SetAnnotations(annotations)
		}
	}
	return nil
}

func isDefaultClass(class storagev1.StorageClass) bool {
	// The second is what it was called in beta; the API server still heeds it.
	return class.Annotations[defaultClassKey] == "true" || class.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true"
}

package why

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// pageSize is how many objects one answer of the API server has. What is not kept of them is garbage before the next answer comes: a
// Job with a limit of memory has to get along with a large cluster.
const pageSize = 500

// inPages adds all objects of a list. The pages are of one moment, which the API server remembers for some minutes. If it has forgotten it,
// again is called, and the list is read anew in one piece.
func inPages[T any](list func(metav1.ListOptions) (items []T, next string, err error), again func(), add func(*T)) error {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		items, next, err := list(options)
		if options.Continue != "" && apierrors.IsResourceExpired(err) {
			again()
			options = metav1.ListOptions{}
			continue
		}
		if err != nil {
			return err
		}
		for i := range items {
			add(&items[i])
		}
		if next == "" {
			return nil
		}
		options.Continue = next
	}
}

func (s *snapshot) readNodes(ctx context.Context, client kubernetes.Interface) error {
	return inPages(func(options metav1.ListOptions) ([]corev1.Node, string, error) {
		page, err := client.CoreV1().Nodes().List(ctx, options)
		if err != nil {
			return nil, "", err
		}
		return page.Items, page.Continue, nil
	}, func() { s.nodes, s.silent = nil, map[string]string{} }, s.addNode)
}

// readPodsOf reads the pods of a namespace (empty: all), and keeps those that a DaemonSet has, or may adopt.
func (s *snapshot) readPodsOf(ctx context.Context, client kubernetes.Interface, namespace string) error {
	ours := map[types.UID]bool{}
	for i := range s.sets {
		ours[s.sets[i].UID] = true
	}
	return inPages(func(options metav1.ListOptions) ([]corev1.Pod, string, error) {
		page, err := client.CoreV1().Pods(namespace).List(ctx, options)
		if err != nil {
			return nil, "", err
		}
		return page.Items, page.Continue, nil
	}, func() { s.owned, s.orphans = map[types.UID][]*corev1.Pod{}, nil }, func(of *corev1.Pod) {
		if owner := metav1.GetControllerOfNoCopy(of); owner != nil && !ours[owner.UID] {
			return
		}
		p := *of // a pointer into the page would keep all of it
		p.ManagedFields = nil
		s.addPod(&p)
	})
}

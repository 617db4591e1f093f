package why

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// paged makes a client list pods in pages of a size, and returns what was asked for. The page that begins at expires is gone, once.
func paged(client *fake.Clientset, pods []corev1.Pod, size, expires int) (asked *[]metav1.ListOptions) {
	asked = &[]metav1.ListOptions{}
	client.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		options := a.(clienttesting.ListActionImpl).ListOptions
		*asked = append(*asked, options)
		if options.Limit == 0 {
			return true, &corev1.PodList{Items: slices.Clone(pods)}, nil
		}
		from := 0
		if options.Continue != "" {
			if _, err := fmt.Sscan(options.Continue, &from); err != nil {
				return true, nil, err
			}
		}
		if expires > 0 && from == expires {
			return true, nil, apierrors.NewResourceExpired("the page is gone")
		}
		to, list := min(from+size, len(pods)), &corev1.PodList{}
		list.Items = slices.Clone(pods[from:to])
		if to < len(pods) {
			list.Continue = fmt.Sprint(to)
		}
		return true, list, nil
	})
	return asked
}

// TestPages: pods are read page by page, and only those are kept that a DaemonSet has, or may adopt. If the API server has forgotten the
// moment of the first page, everything is read once more, in one piece.
func TestPages(t *testing.T) {
	ds := daemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", UID: "agent"}}
	var pods []corev1.Pod
	for i := range 10 {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("pod-", i), ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}}}
		if owner := []types.UID{"agent", "a-replica-set", ""}[i%3]; owner != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: &yes}}
		}
		pods = append(pods, p)
	}
	for _, c := range []struct {
		name    string
		expires int
		asked   []metav1.ListOptions
	}{
		{"pages", 0, []metav1.ListOptions{{Limit: pageSize}, {Limit: pageSize, Continue: "4"}, {Limit: pageSize, Continue: "8"}}},
		{"the last page is gone", 8, []metav1.ListOptions{{Limit: pageSize}, {Limit: pageSize, Continue: "4"}, {Limit: pageSize, Continue: "8"}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := fake.NewClientset(&ds)
			asked := paged(client, pods, 4, c.expires)
			s, err := gather(t.Context(), client, "")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(*asked, c.asked) {
				t.Errorf("it asks for %+v, want %+v", *asked, c.asked)
			}
			if owned, orphans := names(s.owned["agent"]), names(s.orphans); !slices.Equal(owned, []string{"pod-0", "pod-3", "pod-6", "pod-9"}) ||
				!slices.Equal(orphans, []string{"pod-2", "pod-5", "pod-8"}) || len(s.owned) != 1 {
				t.Errorf("it keeps %v of the DaemonSet, %v of nobody, and pods of %d owners", owned, orphans, len(s.owned))
			}
			for _, p := range slices.Concat(s.owned["agent"], s.orphans) {
				if p.ManagedFields != nil {
					t.Errorf("of %s, who wrote which field is kept", p.Name)
				}
			}
		})
	}
}

// TestNoPages: an error is not taken for an expired page. In particular the full list is not asked for again and again.
func TestNoPages(t *testing.T) {
	client, asked := fake.NewClientset(), 0
	client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		asked++
		return true, nil, apierrors.NewResourceExpired("always")
	})
	if _, err := gather(t.Context(), client, ""); !apierrors.IsResourceExpired(err) || asked != 1 {
		t.Errorf("%v after %d requests", err, asked)
	}
}

func names(pods []*corev1.Pod) (all []string) {
	for _, p := range pods {
		all = append(all, p.Name)
	}
	return all
}

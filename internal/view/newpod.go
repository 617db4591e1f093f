package view

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"everynode/internal/plan"
)

func controllerKind() schema.GroupVersionKind {
	return appsv1.SchemeGroupVersion.WithKind("DaemonSet")
}

// NewPod returns the pod to create: the template, with what every DaemonSet pod has. hash is the
// controller-revision-hash of the current revision.
//
// It is bound to its node at once, and keeps the node affinity of its template for others to read. If the
// scheduler is to bind it, one term that names the node replaces the required terms, as upstream does it.
func NewPod(ds *appsv1.DaemonSet, hash string, c plan.Create, name string) *corev1.Pod {
	template := &ds.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			// If a name is given, the API server does nothing with this field but store it. Some tools read
			// from it which DaemonSet a pod belongs to.
			GenerateName:    ds.Name + "-",
			Namespace:       ds.Namespace,
			Labels:          podLabels(ds, hash),
			Annotations:     maps.Clone(template.Annotations),
			Finalizers:      slices.Clone(template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ds, controllerKind())},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	pod.Spec.Tolerations = withDaemonTolerations(&pod.Spec)
	if c.ByScheduler {
		pod.Spec.Affinity = onNode(pod.Spec.Affinity, c.Node)
	} else {
		pod.Spec.NodeName = c.Node
	}
	return pod
}

func podLabels(ds *appsv1.DaemonSet, hash string) map[string]string {
	labels := make(map[string]string, len(ds.Spec.Template.Labels)+2)
	maps.Copy(labels, ds.Spec.Template.Labels)
	if _, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64); err == nil {
		labels[extensionsv1beta1.DaemonSetTemplateGenerationKey] = strconv.FormatInt(Generation(ds), 10)
	}
	if hash != "" {
		labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	}
	return labels
}

// onNode replaces the required node affinity. The terms of the template are not ignored: the plan
// has found that the node matches them.
func onNode(a *corev1.Affinity, node string) *corev1.Affinity {
	if a == nil {
		a = &corev1.Affinity{}
	}
	if a.NodeAffinity == nil {
		a.NodeAffinity = &corev1.NodeAffinity{}
	}
	a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{
				Key:      metav1.ObjectNameField,
				Operator: corev1.NodeSelectorOpIn,
				Values:   []string{node},
			}},
		}},
	}
	return a
}

const (
	maxPodBase = 52 // with a dash and ten letters: 63, the length of a host name
	podLetters = 10
)

// PodName returns the name of the pod that the DaemonSet has on the node, after the predecessor (a pod's UID,
// or empty). The same arguments give the same name. So a create that is retried, or sent by two engines at
// once, gets AlreadyExists instead of making a second pod. hash is empty unless the DaemonSet surges: only
// then may pods of two revisions run side by side, so that they need different names. salt is 0 at first, and
// is increased if a pod of someone else has the name.
func PodName(ds *appsv1.DaemonSet, node, hash, predecessorUID string, salt int) string {
	h := sha256.New()
	for _, part := range []string{string(ds.UID), node, hash, predecessorUID, strconv.Itoa(salt)} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	base := ds.Name[:min(len(ds.Name), maxPodBase)]
	return strings.TrimRight(base, "-.") + "-" + letters(h.Sum(nil), podLetters)
}

// letters writes the first bytes of a hash in the alphabet of generated names, which has no
// vowels and so spells no words. 256 is not a multiple of 27, so some letters are more frequent,
// which does no harm.
func letters(hash []byte, n int) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[int(hash[i])%len(alphabet)]
	}
	return string(out)
}

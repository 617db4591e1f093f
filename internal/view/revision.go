package view

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"
)

// RevisionData returns the patch that restores the DaemonSet's template: the bytes that a ControllerRevision keeps,
// and that kubectl rollout undo compares. The keys are sorted because they pass through maps; large integers
// survive because they are not converted to floats.
func RevisionData(ds *appsv1.DaemonSet) ([]byte, error) {
	encoded, err := json.Marshal(ds.Spec.Template)
	if err != nil {
		return nil, fmt.Errorf("encode the template of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	template := map[string]any{}
	if err := json.Unmarshal(encoded, &template); err != nil {
		return nil, fmt.Errorf("read back the template of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	template["$patch"] = "replace"
	data, err := json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
	if err != nil {
		return nil, fmt.Errorf("encode the revision of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
	}
	return data, nil
}

// NewRevision returns the ControllerRevision of the DaemonSet's current template. Its name and its hash label
// change with status.collisionCount.
func NewRevision(ds *appsv1.DaemonSet, number int64) (*appsv1.ControllerRevision, error) {
	data, err := RevisionData(ds)
	if err != nil {
		return nil, err
	}
	hash := TemplateHash(&ds.Spec.Template, ds.Status.CollisionCount)
	labels := make(map[string]string, len(ds.Spec.Template.Labels)+1)
	maps.Copy(labels, ds.Spec.Template.Labels)
	labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name:      ds.Name + "-" + hash,
			Namespace: ds.Namespace,
			Labels:    labels,
			// All annotations: kubectl rollout history reads the change cause here.
			Annotations:     maps.Clone(ds.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ds, controllerKind())},
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: number,
	}, nil
}

// TemplateHash is Kubernetes' hash of a pod template: FNV-1a over a dump of the struct, in letters. It depends on
// the fields that the API's Go types have, so it differs between versions. An existing revision is found by its
// data, never by computing the hash again.
func TemplateHash(template *corev1.PodTemplateSpec, collisionCount *int32) string {
	h := fnv.New32a()
	h.Write([]byte(dump.ForHash(*template)))
	if collisionCount != nil {
		// Eight bytes, of which four are used: upstream's choice, kept because the names of existing revisions
		// depend on it.
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisionCount))
		h.Write(b[:])
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// AtRevision returns the DaemonSet with the template of one of its revisions. The result has no template
// generation, so that pods made from it are not taken for pods of the current template.
func AtRevision(ds *appsv1.DaemonSet, r *appsv1.ControllerRevision) (*appsv1.DaemonSet, error) {
	template, ok := readTemplate(r.Data.Raw)
	if !ok {
		return nil, fmt.Errorf("ControllerRevision %s/%s has no template that a DaemonSet controller has written", r.Namespace, r.Name)
	}
	old := ds.DeepCopy()
	old.Spec.Template = *template
	delete(old.Annotations, appsv1.DeprecatedTemplateGeneration)
	return old, nil
}

// RevisionImages returns the images of the containers in a revision's template, in order; none if it cannot be
// read.
func RevisionImages(r *appsv1.ControllerRevision) (images []string) {
	template, ok := readTemplate(r.Data.Raw)
	if !ok {
		return nil
	}
	for i := range template.Spec.Containers {
		images = append(images, template.Spec.Containers[i].Image)
	}
	return images
}

package view

// Which updates can be made in place, that is, by changing a running pod; and the one request that does it. changed.go
// reads what happens to the pod afterwards.

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UpdateAnnotation, on a DaemonSet, says how its pods are updated. It is not part of the template:
// changing it changes no pod.
const UpdateAnnotation = "everynode.io/update"

// InPlaceIfPossible is its only value: if two revisions differ only in images, a running pod gets its new images. Every
// other update deletes the pod.
const InPlaceIfPossible = "InPlaceIfPossible"

// AsksInPlace returns whether the DaemonSet asks for updates in place. The error is about an unknown value, which does
// not count as asking for them.
func AsksInPlace(ds *appsv1.DaemonSet) (bool, error) {
	said, ok := ds.Annotations[UpdateAnnotation]
	switch {
	case !ok:
		return false, nil
	case said != InPlaceIfPossible:
		return false, fmt.Errorf("annotation %s: %q is not %q; pods are updated by deletion", UpdateAnnotation, said, InPlaceIfPossible)
	}
	return true, nil
}

// NotInPlace returns why pods of one template cannot become pods of the other in place; nil if they can. Only containers
// whose images differ restart. Nothing else is repeated: neither init containers nor what happens only when a pod is
// created (admission, its network, its environment).
func NotInPlace(from, to *corev1.PodTemplateSpec) error {
	changed := changedImages(&from.Spec, &to.Spec)
	switch {
	case hasLongNumbers(from), hasLongNumbers(to):
		return fmt.Errorf("a number of the template is too long to be compared")
	case len(changed) == 0:
		return fmt.Errorf("no image differs, so no container would restart")
	case !maps.Equal(from.Annotations, to.Annotations):
		return fmt.Errorf("annotations of the template differ: they take effect, or are meant to cause an effect, when a pod is created")
	case !equality.Semantic.DeepEqual(sameBut(from), sameBut(to)):
		return fmt.Errorf("more than the images of containers differs")
	}
	for _, key := range changedKeys(from.Labels, to.Labels) {
		switch {
		case !private(key):
			return fmt.Errorf("label %s differs, which other systems may have read when the pod was created", key)
		case inEnvironment(&to.Spec, "metadata.labels['"+key+"']"):
			return fmt.Errorf("label %s differs, which a container has in its environment", key)
		}
	}
	return nil
}

func hasLongNumbers(t *corev1.PodTemplateSpec) bool {
	data, err := json.Marshal(t)
	return err != nil || hasLongNumber(data)
}

// sameBut returns a copy of the template without the fields that may differ. It keeps the images of init containers that
// end, because these do not run again.
func sameBut(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	same := t.DeepCopy()
	setTemplateDefaults(same)
	same.Labels, same.Annotations = nil, nil
	for _, c := range lasting(&same.Spec) {
		c.Image = ""
	}
	return same
}

// lasting returns the containers that run for as long as the pod does.
func lasting(spec *corev1.PodSpec) (all []*corev1.Container) {
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; sidecar(c) {
			all = append(all, c)
		}
	}
	for i := range spec.Containers {
		all = append(all, &spec.Containers[i])
	}
	return all
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// changedImages returns the images of lasting containers in the second, by container name, where the first has others.
func changedImages(from, to *corev1.PodSpec) map[string]string {
	before, changed := map[string]string{}, map[string]string{}
	for _, c := range lasting(from) {
		before[c.Name] = c.Image
	}
	for _, c := range lasting(to) {
		if image, ok := before[c.Name]; ok && image != c.Image && c.Image != "" && image != "" {
			changed[c.Name] = c.Image
		}
	}
	return changed
}

// changedKeys returns the keys that differ, sorted.
func changedKeys(from, to map[string]string) (keys []string) {
	all := maps.Clone(from)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, to)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		was, had := from[key]
		is, has := to[key]
		if was != is || had != has {
			keys = append(keys, key)
		}
	}
	return keys
}

// private reports whether a label means nothing to systems that look at pods when they are created: it is the user's own,
// without a prefix, or one of those with which charts describe themselves.
func private(key string) bool {
	prefix, _, prefixed := strings.Cut(key, "/")
	return !prefixed || prefix == "app.kubernetes.io" || prefix == "helm.sh"
}

// inEnvironment reports whether a container has the field of its pod in its environment, which is fixed when the
// container is created. Containers that restart would have the new value beside others with the old one.
func inEnvironment(spec *corev1.PodSpec, field string) bool {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for i := range c.Env {
			if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil && strings.ReplaceAll(from.FieldRef.FieldPath, `"`, "'") == field {
				return true
			}
		}
	}
	return false
}

// ForNow is the reason for a pod that is Unfit now, but may become fit later.
type ForNow struct{ error }

// Unfit returns why this pod, of revision from, cannot be changed in place; nil if it can. The pod must match its
// revision. Otherwise admission has changed it, and would do so again. like is what admission makes of a new pod; nil: not
// known.
func Unfit(pod *corev1.Pod, from, to *corev1.PodTemplateSpec, like *corev1.Pod) error {
	changed, images := changedImages(&from.Spec, &to.Spec), imagesOf(&from.Spec)
	found := 0
	for _, c := range lasting(&pod.Spec) {
		if _, changes := changed[c.Name]; !changes {
			continue
		}
		if found++; c.Image != images[c.Name] {
			return fmt.Errorf("container %s has image %q, which is not the image of its revision", c.Name, c.Image)
		}
	}
	if found != len(changed) {
		return fmt.Errorf("the pod lacks containers of its revision")
	}
	if err := unlike(pod, like); err != nil {
		return err
	}
	if err := unsettled(pod, changed); err != nil {
		return ForNow{err}
	}
	for _, key := range changedKeys(from.Labels, to.Labels) {
		if pod.Labels[key] != from.Labels[key] {
			return fmt.Errorf("label %s does not match its revision", key)
		}
	}
	for i := range pod.Status.EphemeralContainerStatuses {
		if s := &pod.Status.EphemeralContainerStatuses[i]; s.State.Running != nil {
			return ForNow{fmt.Errorf("somebody is debugging the pod in container %s", s.Name)}
		}
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if (c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress) && c.Status == corev1.ConditionTrue {
			return ForNow{fmt.Errorf("the resources of the pod are being changed")}
		}
	}
	return nil
}

// unlike returns what a new pod would have that this one lacks, or the other way round, and that no change brings: without its
// pull secret, for example, the new image could not be pulled.
func unlike(pod, like *corev1.Pod) error {
	if like == nil {
		return nil
	}
	if !slices.Equal(pod.Spec.ImagePullSecrets, like.Spec.ImagePullSecrets) {
		return fmt.Errorf("a new pod would have other image pull secrets")
	}
	if !maps.Equal(names(&pod.Spec), names(&like.Spec)) {
		return fmt.Errorf("a new pod would have other containers")
	}
	return nil
}

func names(spec *corev1.PodSpec) map[string]bool {
	all := map[string]bool{}
	for _, c := range lasting(spec) {
		all[c.Name] = true
	}
	return all
}

func imagesOf(spec *corev1.PodSpec) map[string]string {
	images := map[string]string{}
	for _, c := range lasting(spec) {
		images[c.Name] = c.Image
	}
	return images
}

// Rewritten returns how admission has changed the images of a pod of the template; nil if it has not. A missing container
// counts as a change.
func Rewritten(pod *corev1.Pod, template *corev1.PodTemplateSpec) error {
	images := imagesOf(&pod.Spec)
	for _, c := range lasting(&template.Spec) {
		if got, is := images[c.Name]; !is || got != c.Image {
			return fmt.Errorf("admission gives container %s the image %q in place of %q", c.Name, got, c.Image)
		}
	}
	return nil
}

// ChangeInPlace returns the strategic merge patch that turns the pod, of revision from, into one of the DaemonSet's
// revision hash. It applies only to this version of the pod: the API server answers Conflict for any other.
func ChangeInPlace(pod *corev1.Pod, from *corev1.PodTemplateSpec, ds *appsv1.DaemonSet, hash string, now time.Time) ([]byte, error) {
	to := &ds.Spec.Template
	changed := changedImages(&from.Spec, &to.Spec)
	record, err := json.Marshal(recordOf(pod, changed, hash, now))
	if err != nil {
		return nil, fmt.Errorf("encode the former state of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	labels := map[string]any{extensionsv1beta1.DaemonSetTemplateGenerationKey: nil}
	for _, key := range changedKeys(from.Labels, to.Labels) {
		labels[key] = nil
	}
	for key, value := range podLabels(ds, hash) {
		labels[key] = value
	}
	type container struct {
		Name  string `json:"name"`
		Image string `json:"image"`
	}
	spec := map[string][]container{}
	for _, c := range pod.Spec.InitContainers {
		if image, ok := changed[c.Name]; ok {
			spec["initContainers"] = append(spec["initContainers"], container{c.Name, image})
		}
	}
	for _, c := range pod.Spec.Containers {
		if image, ok := changed[c.Name]; ok {
			spec["containers"] = append(spec["containers"], container{c.Name, image})
		}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid": pod.UID, "resourceVersion": pod.ResourceVersion,
			"labels": labels, "annotations": map[string]string{ChangedAnnotation: string(record)},
		},
		"spec": spec,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the change of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return patch, nil
}

// InPlaceFrom returns plan.Spec.InPlace for the DaemonSet's template, whose revision has this hash, from the DaemonSet's
// revisions. Nil: no pod can be changed in place, or the DaemonSet does not ask for it.
func InPlaceFrom(ds *appsv1.DaemonSet, hash string, revisions []appsv1.ControllerRevision) (from map[string]bool) {
	asks, err := AsksInPlace(ds)
	if !asks || err != nil { // the engine reports the error in an event
		return nil
	}
	for i := range revisions {
		r := &revisions[i]
		was := r.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
		if was == "" || was == hash || !metav1.IsControlledBy(r, ds) {
			continue
		}
		if template, ok := readTemplate(r.Data.Raw); ok && NotInPlace(template, &ds.Spec.Template) == nil {
			if from == nil {
				from = map[string]bool{}
			}
			from[was] = true
		}
	}
	return from
}

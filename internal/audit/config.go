package audit

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/view"
)

// References returns the ConfigMaps and Secrets that the DaemonSets' pods read,
// each once and sorted. Audit looks these up in Input.Immutable.
func References(in *Input) []Ref {
	all := map[Ref]bool{}
	for i := range in.DaemonSets {
		ds := &in.DaemonSets[i]
		for ref := range readsOf(&view.Template(ds).Spec, namespaceOf(ds.Namespace)) {
			all[ref] = true
		}
	}
	return sorted(all)
}

func sorted(refs map[Ref]bool) []Ref {
	list := make([]Ref, 0, len(refs))
	for ref := range refs {
		list = append(list, ref)
	}
	slices.SortFunc(list, func(a, b Ref) int {
		return strings.Compare(string(a.Kind)+a.Namespace+"/"+a.Name, string(b.Kind)+b.Namespace+"/"+b.Name)
	})
	return list
}

// rootCA is a ConfigMap that the control plane writes in every namespace.
const rootCA = "kube-root-ca.crt"

// readsOf returns what a pod reads. The value is whether its files follow an edit
// while the pod runs: those of a volume do, but not those below a subPath, and not
// environment variables.
func readsOf(pod *corev1.PodSpec, namespace string) map[Ref]bool {
	reads := map[Ref]bool{}
	note := func(kind Kind, name string, live bool) {
		if name == "" || kind == ConfigMap && name == rootCA {
			return
		}
		ref := Ref{kind, namespace, name}
		reads[ref] = reads[ref] || live
	}
	follows := followed(pod)
	for i := range pod.Volumes {
		v := &pod.Volumes[i]
		if live, mounted := follows[v.Name]; mounted {
			for ref := range sources(v) {
				note(ref.Kind, ref.Name, live)
			}
		}
	}
	for _, containers := range [][]corev1.Container{pod.Containers, pod.InitContainers} {
		for i := range containers {
			for _, ref := range environment(&containers[i]) {
				note(ref.Kind, ref.Name, false)
			}
		}
	}
	return reads
}

// followed returns the volumes that containers mount. The value is true if a
// container that runs as long as the pod mounts the whole volume.
func followed(pod *corev1.PodSpec) map[string]bool {
	volumes := map[string]bool{}
	note := func(c *corev1.Container, lasts bool) {
		for _, m := range c.VolumeMounts {
			volumes[m.Name] = volumes[m.Name] || lasts && m.SubPath == "" && m.SubPathExpr == ""
		}
	}
	for i := range pod.Containers {
		note(&pod.Containers[i], true)
	}
	for i := range pod.InitContainers {
		r := pod.InitContainers[i].RestartPolicy
		note(&pod.InitContainers[i], r != nil && *r == corev1.ContainerRestartPolicyAlways)
	}
	return volumes
}

// sources returns what a volume is made from, without a namespace.
func sources(v *corev1.Volume) map[Ref]bool {
	refs := map[Ref]bool{}
	if v.ConfigMap != nil {
		refs[Ref{Kind: ConfigMap, Name: v.ConfigMap.Name}] = true
	}
	if v.Secret != nil {
		refs[Ref{Kind: Secret, Name: v.Secret.SecretName}] = true
	}
	if v.Projected == nil {
		return refs
	}
	for _, p := range v.Projected.Sources {
		if p.ConfigMap != nil {
			refs[Ref{Kind: ConfigMap, Name: p.ConfigMap.Name}] = true
		}
		if p.Secret != nil {
			refs[Ref{Kind: Secret, Name: p.Secret.Name}] = true
		}
	}
	return refs
}

// environment returns what a container's environment variables are made from,
// without a namespace.
func environment(c *corev1.Container) (refs []Ref) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			refs = append(refs, Ref{Kind: ConfigMap, Name: from.ConfigMapRef.Name})
		}
		if from.SecretRef != nil {
			refs = append(refs, Ref{Kind: Secret, Name: from.SecretRef.Name})
		}
	}
	for _, e := range c.Env {
		switch from := e.ValueFrom; {
		case from == nil:
		case from.ConfigMapKeyRef != nil:
			refs = append(refs, Ref{Kind: ConfigMap, Name: from.ConfigMapKeyRef.Name})
		case from.SecretKeyRef != nil:
			refs = append(refs, Ref{Kind: Secret, Name: from.SecretKeyRef.Name})
		}
	}
	return refs
}

// judgeConfig is about edits that change pods without an update.
func (j *judgement) judgeConfig() {
	reads := readsOf(j.pod, j.namespace())
	live, later := map[Kind][]string{}, map[Kind][]string{}
	for _, ref := range sorted(reads) {
		immutable, known := j.in.Immutable[ref]
		switch {
		case !known || immutable:
		case reads[ref]:
			live[ref.Kind] = append(live[ref.Kind], ref.Name)
		default:
			later[ref.Kind] = append(later[ref.Kind], ref.Name)
		}
	}
	j.mutable(MutableConfig, ConfigMap, live[ConfigMap], later[ConfigMap])
	j.mutable(MutableSecret, Secret, live[Secret], later[Secret])
}

// mutable records objects that can be edited. It is worse if running pods see the
// edit (live) than if only new pods do (later). Secrets are often meant to be
// renewed.
func (j *judgement) mutable(r Reason, kind Kind, live, later []string) {
	severity := Low
	var parts []string
	if len(live) > 0 {
		if kind == ConfigMap {
			severity = Medium
		}
		parts = append(parts, fmt.Sprintf("an edit of %s %s reaches the files of every pod in about a minute", kind, strings.Join(live, ", ")))
	}
	if len(later) > 0 {
		parts = append(parts, fmt.Sprintf("an edit of %s %s reaches each pod that starts", kind, strings.Join(later, ", ")))
	}
	if len(parts) > 0 {
		j.find(r, severity, j.everywhere(), "%s", strings.Join(parts, "; "))
	}
}

// judgeImages is about images that can change under the same name.
func (j *judgement) judgeImages() {
	var loose, pulled []string
	for _, c := range j.all() {
		tag, digest := view.ImageTag(c.Image)
		switch {
		case digest || c.Image == "":
		case tag == "" || tag == "latest":
			loose = append(loose, c.Image)
		case c.ImagePullPolicy == corev1.PullAlways:
			pulled = append(pulled, c.Image)
		}
	}
	switch {
	case len(loose) > 0:
		j.find(MutableImage, Medium, j.everywhere(), "%s is whatever is newest when a node pulls it", strings.Join(slices.Compact(loose), ", "))
	case len(pulled) > 0:
		j.find(MutableImage, Low, j.everywhere(), "%s is pulled whenever a container starts (imagePullPolicy Always), and a tag can be moved", strings.Join(slices.Compact(pulled), ", "))
	}
}

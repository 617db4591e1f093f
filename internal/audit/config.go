package audit

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
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

// Needs returns the ConfigMaps and Secrets without which no pod of the DaemonSet starts: what its pods read and may
// not do without. Each is there once, and they are sorted.
func Needs(ds *appsv1.DaemonSet) []Ref {
	needed := map[Ref]bool{}
	for ref, how := range readsOf(&view.Template(ds).Spec, namespaceOf(ds.Namespace)) {
		if how.needed {
			needed[ref] = true
		}
	}
	return sorted(needed)
}

func sorted[T any](refs map[Ref]T) []Ref {
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

// reading is how a pod reads a ConfigMap or a Secret.
type reading struct {
	// live means that files follow an edit while the pod runs: those of a volume do, but not those below a subPath,
	// and not environment variables.
	live bool
	// needed means that the pod does not start while the object does not exist.
	needed bool
}

// mention is a place in a pod that names a ConfigMap or a Secret. optional is as in the manifest.
type mention struct {
	kind     Kind
	name     string
	optional *bool
}

// readsOf returns what a pod reads.
func readsOf(pod *corev1.PodSpec, namespace string) map[Ref]reading {
	reads := map[Ref]reading{}
	note := func(m mention, live bool) {
		kind, name := m.kind, m.name
		if name == "" || kind == ConfigMap && name == rootCA {
			return
		}
		ref := Ref{kind, namespace, name}
		how := reads[ref]
		reads[ref] = reading{how.live || live, how.needed || m.optional == nil || !*m.optional}
	}
	follows := followed(pod)
	for i := range pod.Volumes {
		v := &pod.Volumes[i]
		if live, mounted := follows[v.Name]; mounted {
			for _, m := range sources(v) {
				note(m, live)
			}
		}
	}
	for _, containers := range [][]corev1.Container{pod.Containers, pod.InitContainers} {
		for i := range containers {
			for _, m := range environment(&containers[i]) {
				note(m, false)
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

// sources returns what a volume is made from.
func sources(v *corev1.Volume) (all []mention) {
	if c := v.ConfigMap; c != nil {
		all = append(all, mention{ConfigMap, c.Name, c.Optional})
	}
	if c := v.Secret; c != nil {
		all = append(all, mention{Secret, c.SecretName, c.Optional})
	}
	if v.Projected == nil {
		return all
	}
	for _, p := range v.Projected.Sources {
		if c := p.ConfigMap; c != nil {
			all = append(all, mention{ConfigMap, c.Name, c.Optional})
		}
		if c := p.Secret; c != nil {
			all = append(all, mention{Secret, c.Name, c.Optional})
		}
	}
	return all
}

// environment returns what a container's environment variables are made from.
func environment(c *corev1.Container) (all []mention) {
	for _, from := range c.EnvFrom {
		if r := from.ConfigMapRef; r != nil {
			all = append(all, mention{ConfigMap, r.Name, r.Optional})
		}
		if r := from.SecretRef; r != nil {
			all = append(all, mention{Secret, r.Name, r.Optional})
		}
	}
	for _, e := range c.Env {
		switch from := e.ValueFrom; {
		case from == nil:
		case from.ConfigMapKeyRef != nil:
			all = append(all, mention{ConfigMap, from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Optional})
		case from.SecretKeyRef != nil:
			all = append(all, mention{Secret, from.SecretKeyRef.Name, from.SecretKeyRef.Optional})
		}
	}
	return all
}

// judgeConfig is about edits that change pods without an update.
func (j *judgement) judgeConfig() {
	reads := readsOf(j.pod, j.namespace())
	live, later := map[Kind][]string{}, map[Kind][]string{}
	for _, ref := range sorted(reads) {
		immutable, known := j.in.Immutable[ref]
		switch {
		case !known || immutable:
		case reads[ref].live:
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

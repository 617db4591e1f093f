package view

import (
	stdjson "encoding/json"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

// readTemplate parses a revision's patch. A patch that does anything but replace the template was not made by
// a DaemonSet controller. What a revision means and what is made from it are read here alike: names of fields have one
// spelling.
func readTemplate(data []byte) (*corev1.PodTemplateSpec, bool) {
	var patch struct {
		Spec struct {
			Template stdjson.RawMessage `json:"template"`
		} `json:"spec"`
	}
	var directive struct {
		Patch string `json:"$patch"`
	}
	template := &corev1.PodTemplateSpec{}
	if hasLongNumber(data) || json.Unmarshal(data, &patch) != nil || len(patch.Spec.Template) == 0 ||
		json.Unmarshal(patch.Spec.Template, &directive) != nil || directive.Patch != "replace" ||
		json.Unmarshal(patch.Spec.Template, template) != nil {
		return nil, false
	}
	return template, true
}

// Template returns a copy of the DaemonSet's template with the API server's defaults: for manifests that no
// API server has seen.
func Template(ds *appsv1.DaemonSet) *corev1.PodTemplateSpec {
	t := ds.Spec.Template.DeepCopy()
	setTemplateDefaults(t)
	return t
}

// setTemplateDefaults fills in the common defaults of the API server for templates. A missing default does no
// harm as long as both sides were written by servers that have it. Adding one is never wrong, because an
// absent field gets that value the next time it is read.
func setTemplateDefaults(t *corev1.PodTemplateSpec) {
	s := &t.Spec
	setDefault(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName
	setDefault(&s.DNSPolicy, corev1.DNSClusterFirst)
	setDefault(&s.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&s.SchedulerName, corev1.DefaultSchedulerName)
	setPointer(&s.SecurityContext, corev1.PodSecurityContext{})
	setPointer(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	for i := range s.Volumes {
		setVolumeDefaults(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		setContainerDefaults(&s.InitContainers[i], s.HostNetwork)
	}
	for i := range s.Containers {
		setContainerDefaults(&s.Containers[i], s.HostNetwork)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func setContainerDefaults(c *corev1.Container, hostNetwork bool) {
	setDefault(&c.ImagePullPolicy, pullPolicy(c.Image))
	setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, corev1.ProtocolTCP)
		if hostNetwork {
			setDefault(&c.Ports[i].HostPort, c.Ports[i].ContainerPort)
		}
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			setFieldDefaults(from.FieldRef)
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		setProbeDefaults(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				setHTTPDefaults(h.HTTPGet)
			}
		}
	}
}

// pullPolicy returns Always for the tag latest, which an image without tag and digest has.
func pullPolicy(image string) corev1.PullPolicy {
	if tag, digest := ImageTag(image); tag == "latest" || image != "" && tag == "" && !digest {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// ImageTag returns the tag of the image, empty if it has none, and whether it has a digest.
func ImageTag(image string) (tag string, digest bool) {
	name, _, digest := strings.Cut(image, "@")
	_, tag, _ = strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	return tag, digest
}

func setProbeDefaults(p *corev1.Probe) {
	if p == nil {
		return
	}
	setDefault(&p.TimeoutSeconds, 1)
	setDefault(&p.PeriodSeconds, 10)
	setDefault(&p.SuccessThreshold, 1)
	setDefault(&p.FailureThreshold, 3)
	setHTTPDefaults(p.HTTPGet)
	if p.GRPC != nil {
		setPointer(&p.GRPC.Service, "")
	}
}

func setHTTPDefaults(a *corev1.HTTPGetAction) {
	if a != nil {
		setDefault(&a.Path, "/")
		setDefault(&a.Scheme, corev1.URISchemeHTTP)
	}
}

func setFieldDefaults(f *corev1.ObjectFieldSelector) {
	if f != nil {
		setDefault(&f.APIVersion, "v1")
	}
}

func setVolumeDefaults(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if v.HostPath != nil {
		setPointer(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.Secret != nil {
		setPointer(&v.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if v.ConfigMap != nil {
		setPointer(&v.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if v.DownwardAPI != nil {
		setPointer(&v.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		for i := range v.DownwardAPI.Items {
			setFieldDefaults(v.DownwardAPI.Items[i].FieldRef)
		}
	}
	if v.Projected != nil {
		setProjectedDefaults(v.Projected)
	}
}

func setProjectedDefaults(p *corev1.ProjectedVolumeSource) {
	setPointer(&p.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
	for i := range p.Sources {
		if d := p.Sources[i].DownwardAPI; d != nil {
			for j := range d.Items {
				setFieldDefaults(d.Items[j].FieldRef)
			}
		}
		if t := p.Sources[i].ServiceAccountToken; t != nil {
			setPointer(&t.ExpirationSeconds, 3600)
		}
	}
}

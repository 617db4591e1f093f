package audit

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/view"
)

// judgeHost is about what pods may do to their nodes. In kube-system that is
// expected, so findings there are Low.
func (j *judgement) judgeHost() {
	root := Medium
	if j.namespace() == metav1.NamespaceSystem {
		root = Low
	}
	for _, risk := range view.HostPathRisks(j.pod) {
		reason, severity := HostPathWritable, Low
		switch risk.Kind {
		case view.WholeHost:
			reason, severity = HostPathWhole, root
		case view.RuntimeSocket:
			reason, severity = RuntimeSocket, root
		}
		j.find(reason, severity, j.everywhere(), "%s", risk.What)
	}
	var names []string
	for _, c := range j.all() {
		if j.privileged(c.SecurityContext) {
			names = append(names, c.Name)
		}
	}
	if len(names) > 0 {
		j.find(Privileged, root, j.everywhere(), "containers that are privileged: %s", strings.Join(names, ", "))
	}
}

// privileged reports whether the container is root on its node, on Linux or
// Windows.
func (s *subject) privileged(c *corev1.SecurityContext) bool {
	host := func(w *corev1.WindowsSecurityContextOptions) bool {
		return w != nil && w.HostProcess != nil && *w.HostProcess
	}
	if c != nil && (c.Privileged != nil && *c.Privileged || host(c.WindowsOptions)) {
		return true
	}
	return host(s.pod.SecurityContext.WindowsOptions)
}

// judgeStanding is about how well pods keep their place on a node that runs short
// of resources. Kubelets do not evict pods with one of Kubernetes' critical
// priorities.
func (j *judgement) judgeStanding() {
	if j.critical() {
		return
	}
	if names := j.withoutMemory(); len(names) > 0 {
		j.find(NoMemoryRequest, Low, j.everywhere(), "no memory is requested by %s", strings.Join(names, ", "))
	}
	if j.pod.PriorityClassName != "" || j.pod.Priority != nil && *j.pod.Priority > 0 {
		return
	}
	if dir := j.plumbing(); dir != "" {
		j.find(NoPriority, Medium, j.everywhere(), "it has no priority class, and other pods of the node need it: it mounts %s", dir)
	}
}

// systemCritical is the lowest priority that kubelets do not evict: that of
// system-cluster-critical.
const systemCritical = 2_000_000_000

func (s *subject) critical() bool {
	class := s.pod.PriorityClassName
	return class == "system-node-critical" || class == "system-cluster-critical" || s.pod.Priority != nil && *s.pod.Priority >= systemCritical
}

// withoutMemory names the containers that request no memory.
func (s *subject) withoutMemory() (names []string) {
	asks := func(r *corev1.ResourceRequirements) bool {
		_, requests := r.Requests[corev1.ResourceMemory]
		_, limits := r.Limits[corev1.ResourceMemory]
		return requests || limits // a limit without a request is also the request
	}
	if s.pod.Resources != nil && asks(s.pod.Resources) {
		return nil
	}
	for _, c := range s.lasting() {
		if !asks(&c.Resources) {
			names = append(names, c.Name)
		}
	}
	return names
}

// plumbing returns a folder of the node that the template mounts and where
// kubelets and runtimes find plugins for networks, storage and devices: a pod with
// such a mount serves the other pods of its node. It is "" if there is none.
func (s *subject) plumbing() string {
	for i := range s.pod.Volumes {
		host := s.pod.Volumes[i].HostPath
		if host == nil {
			continue
		}
		at := path.Clean(host.Path)
		if slices.ContainsFunc([]string{"/etc/cni", "/opt/cni", "/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry", "/var/lib/kubelet/device-plugins"},
			func(dir string) bool { return at == dir || strings.HasPrefix(at, dir+"/") }) {
			return at
		}
	}
	return ""
}

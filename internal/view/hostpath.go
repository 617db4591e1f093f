package view

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// These are the expressions of the admission policy in deploy/policies/host-paths.yaml,
// which a test holds to each other.
var (
	wholeHost      = regexp.MustCompile(`^[/.]*$`)
	runtimeSockets = regexp.MustCompile(`^/+(var/*|(var/+)?run(/+((containerd|crio|podman|k3s|docker)(/.*)?|[^/]*(docker|containerd|crio|dockershim)[^/]*[.]sock))?/*)$`)
)

// HostPathWarnings says what a pod may do to its node by way of hostPath volumes
// that it should not: a sentence each for paths that it can write to, for the whole
// of /, and for the socket of a container runtime. Nil: nothing.
func HostPathWarnings(pod *corev1.PodSpec) []string {
	var written, warnings []string
	var whole, socket *corev1.Volume
	for i := range pod.Volumes {
		v := &pod.Volumes[i]
		if v.HostPath == nil {
			continue
		}
		mounts := mountsOf(pod, v.Name)
		if anyOf(mounts, func(m *corev1.VolumeMount) bool { return !m.ReadOnly }) {
			written = append(written, fmt.Sprintf("volume %s (%s)", v.Name, v.HostPath.Path))
		}
		if whole == nil && wholeHost.MatchString(v.HostPath.Path) && anyOf(mounts, notRecursive) {
			whole = v
		}
		if socket == nil && runtimeSockets.MatchString(v.HostPath.Path) {
			socket = v
		}
	}
	if len(written) > 0 {
		warnings = append(warnings, "the host can be written to by way of "+strings.Join(written, ", ")+": mount it with readOnly: true in each container")
	}
	if whole != nil {
		warnings = append(warnings, fmt.Sprintf("volume %s is the whole file system of the host (%s): name the folders that are needed, or mount it with readOnly: true and recursiveReadOnly: Enabled", whole.Name, whole.HostPath.Path))
	}
	if socket != nil {
		warnings = append(warnings, fmt.Sprintf("volume %s (%s) is or holds the socket of a container runtime, with which one is root on the node, read-only or not: name a folder without it", socket.Name, socket.HostPath.Path))
	}
	return warnings
}

// notRecursive says that what is mounted below a mount stays writable.
func notRecursive(m *corev1.VolumeMount) bool {
	return m.RecursiveReadOnly == nil || *m.RecursiveReadOnly != corev1.RecursiveReadOnlyEnabled
}

// mountsOf lists where the containers of a pod mount a volume.
func mountsOf(pod *corev1.PodSpec, volume string) []corev1.VolumeMount {
	var mounts []corev1.VolumeMount
	add := func(of []corev1.VolumeMount) {
		for _, m := range of {
			if m.Name == volume {
				mounts = append(mounts, m)
			}
		}
	}
	for i := range pod.Containers {
		add(pod.Containers[i].VolumeMounts)
	}
	for i := range pod.InitContainers {
		add(pod.InitContainers[i].VolumeMounts)
	}
	for i := range pod.EphemeralContainers {
		add(pod.EphemeralContainers[i].VolumeMounts)
	}
	return mounts
}

func anyOf(mounts []corev1.VolumeMount, is func(*corev1.VolumeMount) bool) bool {
	for i := range mounts {
		if is(&mounts[i]) {
			return true
		}
	}
	return false
}

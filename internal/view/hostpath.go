package view

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// These are the expressions of the admission policy in deploy/policies/host-paths.yaml. A test compares them.
var (
	wholeHost      = regexp.MustCompile(`^[/.]*$`)
	runtimeSockets = regexp.MustCompile(`(?s)^/*([.]/+)*((var/+([.]/+)*)?run(/+([.]/+)*((containerd|crio|podman|k3s|docker)(/.*)?` +
		`|[^/]*(docker|containerd|crio|dockershim)[^/]*[.]sock))?` +
		`|var(/+([.]/+)*lib(/+([.]/+)*everynode(-agent)?(/.*)?)?)?` +
		`|proc/(.*/)?(root|cwd|fd)(/.*)?|dev/+([.]/+)*fd(/.*)?)(/+([.]/+)*[.]?)?$`)
)

// HostPathKind is a way in which a pod reaches more of its node than it should.
type HostPathKind uint8

// The kinds of HostPathRisk.
const (
	HostWritten   HostPathKind = iota // a path that a container can write to
	WholeHost                         // all of /
	RuntimeSocket                     // the socket of a container runtime, or a folder with it
)

// HostPathRisk is what a pod could do to its node through hostPath volumes.
type HostPathRisk struct {
	Kind HostPathKind
	// What it is, and what to Change about it: together they are one sentence.
	What, Change string
}

// HostPathWarnings returns HostPathRisks as sentences without a full stop.
func HostPathWarnings(pod *corev1.PodSpec) (warnings []string) {
	for _, r := range HostPathRisks(pod) {
		warnings = append(warnings, r.What+": "+r.Change)
	}
	return warnings
}

// HostPathRisks returns what a pod could do to its node through hostPath volumes, and should not: at most one
// of each kind, in the order of the kinds. Nil: nothing.
func HostPathRisks(pod *corev1.PodSpec) (risks []HostPathRisk) {
	var written []string
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
		risks = append(risks, HostPathRisk{HostWritten, "the host can be written to through " + strings.Join(written, ", "), "mount it with readOnly: true in each container"})
	}
	if whole != nil {
		risks = append(risks, HostPathRisk{WholeHost, fmt.Sprintf("volume %s is the whole file system of the host (%s)", whole.Name, whole.HostPath.Path),
			"name only the folders that are needed, or mount it with readOnly: true and recursiveReadOnly: Enabled"})
	}
	if socket != nil {
		risks = append(risks, HostPathRisk{RuntimeSocket, fmt.Sprintf("volume %s (%s) is or contains the socket of a container runtime, which makes the pod root on the node, read-only or not", socket.Name, socket.HostPath.Path),
			"name a folder without it"})
	}
	return risks
}

// notRecursive reports whether file systems that are mounted below a read-only mount stay writable.
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

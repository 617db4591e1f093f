package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"everynode/deploy/policies"
	"everynode/internal/view"
)

// readOnly, writable and allReadOnly are ways to mount a volume.
var (
	readOnly    = corev1.VolumeMount{ReadOnly: true}
	writable    = corev1.VolumeMount{}
	allReadOnly = corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: new(corev1.RecursiveReadOnlyEnabled)}
)

// hostPathCases are pods by the paths that they mount, and how many of the three
// warnings each gets.
var hostPathCases = []struct {
	path  string
	mount corev1.VolumeMount
	want  int
}{
	{"/var/log", readOnly, 0},
	{"/var/log", writable, 1},
	{"/", readOnly, 1},
	{"/", writable, 2},
	{"/", allReadOnly, 0},
	{"//", readOnly, 1},
	{"/./", readOnly, 1},
	{"/run/containerd/containerd.sock", readOnly, 1},
	{"/run/containerd/containerd.sock", writable, 2},
	{"/run//containerd", readOnly, 1},
	{"/run/k3s/containerd/containerd.sock", readOnly, 1},
	{"/run/crio/crio.sock", readOnly, 1},
	{"/var/run/docker.sock", readOnly, 1},
	{"/var/run/cri-dockerd.sock", readOnly, 1},
	{"/var/run", allReadOnly, 1},
	{"/var", readOnly, 1},
	{"/run/", readOnly, 1},
	{"/run/docker-data", readOnly, 0},
	{"/run/udev", readOnly, 0},
	{"/var/lib/kubelet", readOnly, 0},
	{"/srv/run/docker.sock", readOnly, 0},
	// The same paths, spelled otherwise.
	{"/./run/containerd", readOnly, 1},
	{"/run/./containerd", readOnly, 1},
	{"/var/./run", readOnly, 1},
	{"/var/.", readOnly, 1},
	{"/var//lib/.//", readOnly, 1},
	{"/.//run/.", readOnly, 1},
	{"run/containerd", readOnly, 1},
	{"./run", readOnly, 1},
	{"/run./containerd", readOnly, 0},
	{"/.run/containerd", readOnly, 0},
	// everynode's containerd, and the folders that hold it.
	{"/var/lib", readOnly, 1},
	{"/var/lib/everynode-agent", allReadOnly, 1},
	{"/var/lib/everynode-agent/containerd", readOnly, 1},
	{"/var/lib/./everynode-agent/containerd/containerd.sock", readOnly, 1},
	{"/var/lib/everynode/nodes", readOnly, 1},
	{"/var/lib/everynode-reports", readOnly, 0},
	{"/var/lib/log-collector", readOnly, 0},
	{"/srv/var/lib", readOnly, 0},
	// What a process sees.
	{"/proc/1/root", readOnly, 1},
	{"/proc/1/root", allReadOnly, 1},
	{"/proc/1/root/run/containerd", readOnly, 1},
	{"/proc/./1//cwd/etc", readOnly, 1},
	{"/proc/self/cwd", readOnly, 1},
	{"/proc/1/task/1/root", readOnly, 1},
	{"/proc/1/fd/7", readOnly, 1},
	{"/dev/fd/7", readOnly, 1},
	{"/proc", readOnly, 0},
	{"/proc", writable, 1},
	{"/proc/sys/net", readOnly, 0},
	{"/proc/1/net", readOnly, 0},
	{"/dev", readOnly, 0},
}

func hostPathPod(path string, mount corev1.VolumeMount) corev1.PodSpec {
	mount.Name, mount.MountPath = "host", "/host"
	return corev1.PodSpec{
		Containers: []corev1.Container{{Name: "main", Image: "agent:1", VolumeMounts: []corev1.VolumeMount{mount}}},
		Volumes:    []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}}},
	}
}

// TestHostPathPolicy compares the warnings of the admission policy on a real API
// server with those of `everynode why` for the same pods. Then the policy refuses
// such pods.
func TestHostPathPolicy(t *testing.T) {
	l := newLab(t)
	told := &warnings{}
	config := rest.CopyConfig(apiServer(t))
	config.WarningHandler = told
	client, err := kubernetes.NewForConfig(config)
	l.do(err)
	l.installPolicy(policies.HostPathsWarn)
	l.until("the policy warns", func() bool {
		told.take()
		l.do(dryRun(t, client, hostPathPod("/", writable)))
		return len(told.take()) == 2
	})
	for _, c := range hostPathCases {
		spec := hostPathPod(c.path, c.mount)
		want := view.HostPathWarnings(&spec)
		if len(want) != c.want {
			t.Errorf("%s %+v: %d warnings in Go, want %d: %q", c.path, c.mount, len(want), c.want, want)
		}
		l.do(dryRun(t, client, spec))
		if got := told.take(); !slices.Equal(got, want) {
			t.Errorf("%s %+v: the policy and why differ\npolicy: %q\nwhy:    %q", c.path, c.mount, got, want)
		}
	}
	t.Run("kinds", func(t *testing.T) { hostPathKinds(t, client, told) })
	old := agent()
	old.Spec.Template.Spec = hostPathPod("/etc", writable)
	l.create(old)
	l.installPolicy(policies.HostPathsReadOnly)
	l.until("the policy refuses", func() bool { return apierrors.IsInvalid(dryRun(t, client, hostPathPod("/etc", writable))) })
	if err := dryRun(t, client, hostPathPod("/etc", readOnly)); err != nil {
		t.Errorf("a read-only path is refused: %v", err)
	}
	l.whatWasThere(hostPathPod("/etc", writable))
}

// whatWasThere checks that the policy leaves alone what was created before it:
// controllers may create its pods again, and its labels may change, but not its
// template.
func (l *lab) whatWasThere(spec corev1.PodSpec) {
	l.t.Helper()
	manager := rest.CopyConfig(l.config)
	manager.Impersonate = rest.ImpersonationConfig{UserName: "system:kube-controller-manager", Groups: []string{"system:masters"}}
	client, err := kubernetes.NewForConfig(manager)
	l.do(err)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "again"}, Spec: spec}
	_, err = client.CoreV1().Pods(namespace).Create(l.t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	l.do(err)
	l.edit(func(ds *appsv1.DaemonSet) { ds.Labels = map[string]string{"changed": "yes"} })
	sets := l.client.AppsV1().DaemonSets(namespace)
	ds, err := sets.Get(l.t.Context(), "agent", metav1.GetOptions{})
	l.do(err)
	ds.Spec.Template.Spec.Containers[0].Image = "agent:2"
	if _, err := sets.Update(l.t.Context(), ds, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		l.t.Errorf("the template was changed and is not read-only: %v", err)
	}
}

// hostPathKinds checks that the policy looks at pods wherever their template is.
func hostPathKinds(t *testing.T, client kubernetes.Interface, told *warnings) {
	create := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	labels := map[string]string{"app": "agent"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: hostPathPod("/etc", writable)}
	once := *template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	named, selector := metav1.ObjectMeta{Name: "agent"}, &metav1.LabelSelector{MatchLabels: labels}
	for kind, err := range map[string]func() error{
		"Deployment": func() error {
			_, err := client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{ObjectMeta: named, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}, create)
			return err
		},
		"StatefulSet": func() error {
			_, err := client.AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: named, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}}, create)
			return err
		},
		"CronJob": func() error {
			_, err := client.BatchV1().CronJobs(namespace).Create(t.Context(), &batchv1.CronJob{ObjectMeta: named,
				Spec: batchv1.CronJobSpec{Schedule: "0 0 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}}}}, create)
			return err
		},
		"Pod": func() error {
			_, err := client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: named, Spec: template.Spec}, create)
			return err
		},
	} {
		if err := err(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := told.take(); len(got) != 1 {
			t.Errorf("%s: the warnings are %q, want one", kind, got)
		}
	}
}

func dryRun(t *testing.T, client kubernetes.Interface, spec corev1.PodSpec) error {
	ds := agent()
	ds.Name, ds.Spec.Template.Spec = "tried", spec
	_, err := client.AppsV1().DaemonSets(namespace).Create(t.Context(), ds, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// installPolicy installs the policy with one of its bindings. The end of the test
// removes both.
func (l *lab) installPolicy(bindingYAML []byte) {
	l.t.Helper()
	var policy admissionv1.ValidatingAdmissionPolicy
	var binding admissionv1.ValidatingAdmissionPolicyBinding
	l.do(yaml.UnmarshalStrict(policies.HostPaths, &policy))
	l.do(yaml.UnmarshalStrict(bindingYAML, &binding))
	admission := l.client.AdmissionregistrationV1()
	_, err := admission.ValidatingAdmissionPolicies().Create(l.t.Context(), &policy, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // with the other binding, which this one replaces
		l.do(admission.ValidatingAdmissionPolicyBindings().Delete(l.t.Context(), binding.Name, metav1.DeleteOptions{}))
	} else {
		l.do(err)
		l.t.Cleanup(func() {
			for _, err := range []error{
				admission.ValidatingAdmissionPolicyBindings().Delete(context.WithoutCancel(l.t.Context()), binding.Name, metav1.DeleteOptions{}),
				admission.ValidatingAdmissionPolicies().Delete(context.WithoutCancel(l.t.Context()), policy.Name, metav1.DeleteOptions{}),
			} {
				if err != nil {
					l.t.Error(err)
				}
			}
		})
	}
	_, err = admission.ValidatingAdmissionPolicyBindings().Create(l.t.Context(), &binding, metav1.CreateOptions{})
	l.do(err)
}

// warnings collects the warnings of an API server, without their heading.
type warnings struct {
	mu   sync.Mutex
	told []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	heading := fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%[1]s' with binding '%[1]s': ", "everynode-host-paths")
	w.told = append(w.told, strings.TrimPrefix(text, heading))
}

// take returns the warnings since the last call.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

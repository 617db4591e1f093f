package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// People copy the manifests in agents: they must be strict, with an update strategy, limits, and no rights that
// they do not need.
func TestAgents(t *testing.T) {
	for _, file := range agentManifests(t) {
		for _, ds := range daemonSets(t, file) {
			spec := ds.Spec.Template.Spec
			if ds.Name != filepath.Base(filepath.Dir(file)) || ds.Spec.Selector.MatchLabels["app"] != ds.Name || ds.Spec.Template.Labels["app"] != ds.Name {
				t.Errorf("%s: name %s, selector %v, labels %v", file, ds.Name, ds.Spec.Selector.MatchLabels, ds.Spec.Template.Labels)
			}
			if rolling := ds.Spec.UpdateStrategy.RollingUpdate; rolling == nil || rolling.MaxUnavailable == nil {
				t.Errorf("%s: no maxUnavailable", file)
			}
			for _, c := range spec.InitContainers {
				checkContainer(t, c, c.Image)
			}
			for _, c := range spec.Containers {
				if sc := c.SecurityContext; sc != nil && sc.Privileged != nil {
					checkPrivileged(t, ds.Name, c)
				} else {
					checkContainer(t, c, c.Image)
				}
				if c.ReadinessProbe == nil && ds.Name != "device-plugin" { // it only serves the kubelet
					t.Errorf("%s: %s has no readiness probe", file, c.Name)
				}
			}
			checkHostPaths(t, file, spec)
		}
	}
}

// checkPrivileged requires a reason, in its list, for each privileged container.
func checkPrivileged(t *testing.T, agent string, c corev1.Container) {
	t.Helper()
	reasons := map[string]string{
		"csi-disk driver": "mounts that others see, and loop devices",
		"smart smart":     "disks, which the kernel hides from others",
	}
	checkMemory(t, c)
	if root := c.SecurityContext.ReadOnlyRootFilesystem; reasons[agent+" "+c.Name] == "" || root == nil || !*root {
		t.Errorf("%s: %s is privileged, with the security context %+v", agent, c.Name, c.SecurityContext)
	}
}

// agentManifests includes the manifests that accompany an agent, for clusters with a registry.
func agentManifests(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{"agents/*/*.yaml", "agents/*/*/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no manifests found at %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	return files
}

// daemonSets returns the DaemonSets in a file with several documents.
func daemonSets(t *testing.T, file string) (list []appsv1.DaemonSet) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if kind.Kind != "DaemonSet" {
			continue
		}
		var ds appsv1.DaemonSet
		if err := yaml.UnmarshalStrict([]byte(document), &ds); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, ds)
	}
	return list
}

// checkHostPaths requires a reason, in its list, for each path of the node that a pod may write to.
func checkHostPaths(t *testing.T, file string, spec corev1.PodSpec) {
	t.Helper()
	writable := map[string]string{
		"/dev":                              "loop devices",
		"/etc/cni/net.d":                    "what the container runtime does for each pod",
		"/opt/cni/bin":                      "flannel's plugin",
		"/run/flannel":                      "what the node has got, for that plugin",
		"/tmp":                              "the sample's devices",
		"/var/lib/aide-agent":               "what AIDE remembers of the node",
		"/var/lib/fluent-bit":               "where it is in each file, and what it has not sent yet",
		"/var/lib/kubelet/device-plugins":   "the plugin's socket",
		"/var/lib/kubelet/plugins":          "volumes, the driver's socket, and where the kubelet has volumes mounted for the node",
		"/var/lib/kubelet/plugins_registry": "the socket by which the kubelet finds the driver",
		"/var/lib/kubelet/pods":             "where the kubelet has volumes mounted for pods",
		"/var/lib/log-collector":            "where it is in each file",

		"/var/lib/kubelet/plugins/disk.csi.everynode.io/socket": "the driver's socket: whoever connects to one writes to it",
	}
	paths := map[string]string{}
	for _, v := range spec.Volumes {
		if v.HostPath != nil {
			paths[v.Name] = v.HostPath.Path
		}
	}
	for _, c := range append(spec.InitContainers, spec.Containers...) {
		for _, m := range c.VolumeMounts {
			path, ok := paths[m.Name]
			if !ok {
				continue
			}
			recursive := m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyIfPossible
			if path == "/" || !(m.ReadOnly && recursive) && writable[path] == "" {
				t.Errorf("%s: %s mounts %s, read-only %v, with what is mounted inside %v", file, c.Name, path, m.ReadOnly, recursive)
			}
		}
	}
}

// Images that others publish, too, have the same names and versions as those that are built here.
func TestAgentVersions(t *testing.T) {
	for _, tc := range []struct{ agent, want string }{
		{"node-exporter", "quay.io/prometheus/node-exporter:" + moduleVersion(t, "agents", "github.com/prometheus/node_exporter")},
		{"device-plugin", "registry.k8s.io/e2e-test-images/sample-device-plugin:" + devicePluginVersion(t)},
		{"kube-proxy", "everynode.local/kube-proxy:" + strings.TrimPrefix(moduleVersion(t, ".", "k8s.io/kubernetes"), "v")},
		{"flannel", "everynode.local/flannel:" + strings.TrimPrefix(moduleVersion(t, "agents/flannel", "github.com/flannel-io/flannel"), "v")},
		{"log-collector", "everynode.local/otelcol-logs:" + strings.TrimPrefix(moduleVersion(t, "agents/log-collector", "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver"), "v")},
	} {
		for _, ds := range daemonSets(t, filepath.Join("agents", tc.agent, "daemonset.yaml")) {
			if got := ds.Spec.Template.Spec.Containers[0].Image; got != tc.want {
				t.Errorf("%s: image %s, want %s", tc.agent, got, tc.want)
			}
		}
	}
}

// moduleVersion returns the version of a module that the module in dir locks.
func moduleVersion(t *testing.T, dir, module string) string {
	t.Helper()
	return goList(t, dir, "{{.Version}}", module)
}

// devicePluginVersion returns the version that Kubernetes gives the image of its sample.
func devicePluginVersion(t *testing.T) string {
	t.Helper()
	file := filepath.Join(goList(t, ".", "{{.Dir}}", "k8s.io/kubernetes"), "test/images/sample-device-plugin/VERSION")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func goList(t *testing.T, dir, format, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "-C", dir, "list", "-m", "-f", format, module).Output()
	if err != nil {
		t.Fatalf("go list -m %s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}

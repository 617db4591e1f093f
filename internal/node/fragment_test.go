package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKubeletFragment(t *testing.T) {
	const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
	tests := []struct{ name, text, wantErr string }{
		{"settings", head + "staticPodPath: /etc/kubernetes/manifests\nmaxPods: 20\n", ""},
		{"nothing", head, ""},
		{"no kind", "maxPods: 20\n", "kind KubeletConfiguration"},
		{"another version", "apiVersion: kubelet.config.k8s.io/v1\nkind: KubeletConfiguration\n", "v1beta1"},
		{"a field that no kubelet has", head + "maxPod: 20\n", "maxPod"},
		{"a field twice", head + "maxPods: 20\nmaxPods: 30\n", "maxPods"},
		{"two documents", head + "---\n" + head, "more than one document"},
		{"another kind of value", head + "maxPods: many\n", "maxPods"},
		{"what is the agent's", head + "cgroupRoot: /\n", "only the agent may set cgroupRoot: the node's limits are set there"},
		{"who may ask", head + "authentication: {anonymous: {enabled: true}}\n", "only the agent may set authentication"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := checkFragment([]byte(tt.text))
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error = %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}

// Settings reach the kubelet as a file in its drop-in folder, which is removed with the
// flag.
func TestKubeletDropIn(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), kubeletFragment: []byte(`{"maxPods":20}`)}
	file := cfg.files().path("kubelet.d", "10-own.conf")
	if err := cfg.writeKubeletDropIn(); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != `{"maxPods":20}` {
		t.Errorf("%s has %q, %v", file, raw, err)
	}
	cfg.kubeletFragment = nil
	for range 2 {
		if err := cfg.writeKubeletDropIn(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the settings of an earlier start are still there")
	}
}

// Whoever can change such a file decides what this machine runs.
func TestFilesOfANodeAreTrusted(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		check      func(string) error
	}{
		{"kubelet.yaml", "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 20\n", CheckKubeletConfig},
		{"containerd.toml", "version = 3\n", CheckContainerdConfig},
		{"registries.yaml", "mirrors: {docker.io: {endpoint: [https://mirror.example.com]}}\n", CheckRegistries},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), tt.name)
			if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := tt.check(file); err != nil {
				t.Errorf("a file that only its owner can change: %v", err)
			}
			if err := os.Chmod(file, 0o664); err != nil {
				t.Fatal(err)
			}
			if err := tt.check(file); err == nil || !strings.Contains(err.Error(), "chmod go-w "+file) {
				t.Errorf("a file that others can change: %v", err)
			}
		})
	}
}

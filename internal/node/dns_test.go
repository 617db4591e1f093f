package node

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	systemd := write("systemd", "nameserver 192.0.2.53\n")
	plain := write("plain", "nameserver 192.0.2.1\n")
	stub := write("stub", "# comment\nnameserver 127.0.0.53\noptions edns0\n")
	mixed := write("mixed", "nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
	empty := write("empty", "search example.com\n")
	absent := filepath.Join(dir, "absent")
	tests := []struct{ file, systemd, want string }{
		{plain, systemd, plain}, {stub, systemd, systemd}, {stub, absent, stub},
		{mixed, systemd, mixed}, {empty, systemd, empty}, {absent, systemd, absent},
	}
	for _, tt := range tests {
		if got := resolvConf(tt.file, tt.systemd); got != tt.want {
			t.Errorf("resolvConf(%s, %s) = %s, want %s", tt.file, tt.systemd, got, tt.want)
		}
	}
}

func TestWithoutLoopback(t *testing.T) {
	const node = "10.0.0.101"
	tests := map[string]struct{ text, want string }{
		"others only":            {"search a.example\nnameserver 192.0.2.1\noptions edns0\n", "search a.example\nnameserver 192.0.2.1\noptions edns0\n"},
		"one of two":             {"nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		"none left":              {"nameserver 127.0.0.53\noptions edns0\n", "options edns0\nnameserver 10.0.0.101\n"},
		"IPv6":                   {"nameserver ::1\nnameserver fe80::1%eth0\n", "nameserver fe80::1%eth0\n"},
		"every address":          {"nameserver 0.0.0.0\n", "nameserver 10.0.0.101\n"},
		"none":                   {"search a.example\n", "search a.example\nnameserver 10.0.0.101\n"},
		"no file":                {"", "nameserver 10.0.0.101\n"},
		"no end of line":         {"search a.example", "search a.example\nnameserver 10.0.0.101\n"},
		"a comment":              {"# nameserver 192.0.2.1\n", "# nameserver 192.0.2.1\nnameserver 10.0.0.101\n"},
		"what is not an address": {"nameserver what\n", "nameserver what\n"},
		"a line without value":   {"nameserver\nnameserver 192.0.2.1\n", "nameserver\nnameserver 192.0.2.1\n"},
	}
	for name, tt := range tests {
		if got := withoutLoopback(tt.text, node); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestResolver(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{DataDir: filepath.Join(dir, "data"), NodeIP: "10.0.0.101", Log: slog.New(slog.DiscardHandler)}
	file, own := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "data", "resolv.conf")
	for _, tt := range []struct{ text, want string }{{"nameserver 192.0.2.1\n", file}, {"nameserver 127.0.0.1\n", own}, {"", own}} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := cfg.resolver(file, filepath.Join(dir, "absent")); err != nil || got != tt.want {
			t.Errorf("resolver of %q = %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
	if got, err := cfg.resolver(filepath.Join(dir, "absent"), filepath.Join(dir, "absent")); err != nil || got != own {
		t.Errorf("resolver without a file = %s, %v; want %s", got, err, own)
	}
	if text, err := os.ReadFile(own); err != nil || string(text) != "nameserver 10.0.0.101\n" {
		t.Errorf("%s holds %q, %v", own, text, err)
	}
}

// TestClusterDNS asks an API server with prescribed answers, and then no server.
func TestClusterDNS(t *testing.T) {
	status := http.StatusOK
	service := corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Name: dnsService},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/kube-system/services/kube-dns" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(service); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	var log strings.Builder
	cfg := Config{DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}
	kubeconfig := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"c": {Server: server.URL}},
		Contexts: map[string]*clientcmdapi.Context{"c": {Cluster: "c"}}, CurrentContext: "c",
	}
	if err := clientcmd.WriteToFile(kubeconfig, cfg.files().kubeconfig()); err != nil {
		t.Fatal(err)
	}
	expect := func(what, want string) {
		t.Helper()
		if got, err := cfg.clusterDNS(t.Context()); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", what, got, err, want)
		}
	}
	for _, refusal := range []int{http.StatusNotFound, http.StatusForbidden} {
		status = refusal
		expect("a cluster without DNS", "")
	}
	status = http.StatusOK
	expect("a cluster with DNS", "10.96.0.10")
	service.Spec.ClusterIP = "10.96.0.77"
	expect("another address", "10.96.0.77")
	status = http.StatusServiceUnavailable
	expect("a server that does not work", "10.96.0.77")
	server.Close()
	expect("no server", "10.96.0.77")
	if !strings.Contains(log.String(), "continuing with the saved one") {
		t.Errorf("the log does not say so:\n%s", &log)
	}
	cfg.ClusterDNS = "192.0.2.53"
	expect("a given address", "192.0.2.53")
}

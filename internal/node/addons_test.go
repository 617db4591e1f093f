package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"everynode/internal/node/image"
	"everynode/internal/registry"
)

// addonArchives is a directory with the archive of one image.
func addonArchives(t *testing.T, name string) *registry.Archives {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	noError(t, os.WriteFile(filepath.Join(root, "agent"), []byte("an agent"), 0o755))
	noError(t, image.Build(image.BuildOptions{Dir: root, Name: name, Output: filepath.Join(dir, "addon.tar")}))
	archives, err := registry.Open(dir)
	noError(t, err)
	t.Cleanup(func() { noError(t, archives.Close()) })
	return archives
}

// containerd finds the mirror by the announced settings, and trusts nobody else.
func TestAddonRegistry(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "addons.d")
	r := addonRegistry{addonArchives(t, "registry.k8s.io/coredns/coredns:v1"), hosts}
	s := supervise(t.Context(), "mirror", discard(), r.run)
	defer s.stop()
	settings := filepath.Join(hosts, "registry.k8s.io", "hosts.toml")
	var text []byte
	noError(t, wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		var err error
		text, err = os.ReadFile(settings)
		return err == nil, nil
	}))
	said := regexp.MustCompile(`\A\[host\."(https://127\.0\.0\.1:\d+)"\]\n  capabilities = \["pull", "resolve"\]\n  ca = "(/.*/registry\.k8s\.io/ca\.crt)"\n\z`).FindSubmatch(text)
	if said == nil {
		t.Fatalf("containerd is told\n%s", text)
	}
	ca, err := os.ReadFile(string(said[2]))
	noError(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("there is no certificate in\n%s", ca)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	answer, err := client.Head(string(said[1]) + "/v2/coredns/coredns/manifests/v1?ns=registry.k8s.io")
	noError(t, err)
	noError(t, answer.Body.Close())
	if answer.StatusCode != http.StatusOK {
		t.Errorf("the mirror says %s", answer.Status)
	}
	s.stop()
	if _, err := os.Stat(hosts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("containerd is told of a mirror that has ended: %v", err)
	}
}

// Settings of the operator for a registry, or for all, win.
func TestOverruled(t *testing.T) {
	archives := addonArchives(t, "registry.k8s.io/coredns/coredns:v1")
	for host, want := range map[string]bool{"": false, "docker.io": false, "registry.k8s.io": true, "_default": true} {
		settings := t.TempDir()
		noError(t, os.MkdirAll(filepath.Join(settings, host), 0o755))
		if got := overruled(settings, archives); got != want {
			t.Errorf("with settings for %q: overruled %v, want %v", host, got, want)
		}
	}
	if overruled(filepath.Join(t.TempDir(), "none"), archives) {
		t.Error("settings that are not there overrule")
	}
}

package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"everynode/internal/node/image"
	"everynode/internal/registry"
)

// build makes an archive of an image that holds one file.
func build(t *testing.T, dir, name, content string, how image.Compression) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "program"), []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(name)+".tar")
	if err := image.Build(image.BuildOptions{Dir: root, Name: name, Entrypoint: []string{"/program"}, Output: archive, Compression: how}); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *registry.Archives {
	t.Helper()
	archives, err := registry.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := archives.Close(); err != nil {
			t.Error(err)
		}
	})
	return archives
}

// pull fetches an image as a mirror's client does, checks what it gets, and returns
// the manifest's digest and what else was fetched.
func pull(t *testing.T, server, of, image, ref string) (d digest.Digest, manifest ocispec.Manifest, err error) {
	t.Helper()
	get := func(what string) []byte {
		answer, failed := http.Get(server + "/v2/" + image + "/" + what + "?ns=" + of)
		if failed != nil {
			t.Fatal(failed)
		}
		defer answer.Body.Close()
		body, failed := io.ReadAll(answer.Body)
		if failed != nil {
			t.Fatal(failed)
		}
		if answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", answer.Status, body)
			return nil
		}
		if d = digest.Digest(answer.Header.Get("Docker-Content-Digest")); d != digest.FromBytes(body) {
			t.Errorf("%s has the digest %s, and is said to have %s", what, digest.FromBytes(body), d)
		}
		return body
	}
	body := get("manifests/" + ref)
	if err != nil {
		return "", manifest, err
	}
	manifestDigest := d
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, blob := range append(manifest.Layers, manifest.Config) {
		if got := get("blobs/" + blob.Digest.String()); int64(len(got)) != blob.Size || d != blob.Digest {
			t.Errorf("%s has %d bytes, want %d", d, len(got), blob.Size)
		}
	}
	return manifestDigest, manifest, err
}

// An image is pulled as it was built, by tag and by digest, and only if the client names
// the registry that it is from.
func TestPull(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "registry.k8s.io/coredns/coredns:v1", "dns", image.Zstd)
	build(t, dir, "example.com/agent", "agent", image.Gzip)
	archives := open(t, dir)
	if diff := cmp.Diff([]string{"example.com", "registry.k8s.io"}, archives.Hosts()); diff != "" {
		t.Error(diff)
	}
	server := httptest.NewServer(archives)
	defer server.Close()
	d, manifest, err := pull(t, server.URL, "registry.k8s.io", "coredns/coredns", "v1")
	if err != nil || len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != ocispec.MediaTypeImageLayerZstd {
		t.Errorf("%+v, %v", manifest.Layers, err)
	}
	if again, _, err := pull(t, server.URL, "registry.k8s.io", "coredns/coredns", d.String()); err != nil || again != d {
		t.Errorf("by its digest the image is %s, %v", again, err)
	}
	if _, _, err := pull(t, server.URL, "example.com", "agent", "latest"); err != nil {
		t.Error(err)
	}
	for _, other := range [][3]string{{"example.com", "coredns/coredns", "v1"}, {"registry.k8s.io", "coredns/coredns", "v2"}, {"", "agent", "latest"}} {
		if _, _, err := pull(t, server.URL, other[0], other[1], other[2]); err == nil || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// What is not a pull is refused, in the words of the protocol.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "example.com/agent:1", "agent", image.Gzip)
	server := httptest.NewServer(open(t, dir))
	defer server.Close()
	none := "sha256:" + strings.Repeat("0", 64)
	for request, want := range map[string]string{
		"GET /v2/": "200 ",
		"HEAD /v2/agent/manifests/1?ns=example.com":        "200 ",
		"GET /v2/agent/manifests/2?ns=example.com":         "404 MANIFEST_UNKNOWN",
		"GET /v2/agent/manifests/" + none:                  "404 MANIFEST_UNKNOWN",
		"GET /v2/agent/blobs/" + none:                      "404 BLOB_UNKNOWN",
		"GET /v2/agent/blobs/..%2f..%2fetc%2fpasswd":       "404 UNSUPPORTED",
		"GET /etc/passwd":                                  "404 UNSUPPORTED",
		"GET /v2/agent/tags/list":                          "404 UNSUPPORTED",
		"PUT /v2/agent/manifests/1?ns=example.com":         "405 UNSUPPORTED",
		"POST /v2/agent/blobs/uploads/":                    "405 UNSUPPORTED",
		"DELETE /v2/agent/manifests/1?ns=example.com":      "405 UNSUPPORTED",
		"GET /v2/manifests/1?ns=example.com/agent&x=/v2/y": "404 ",
	} {
		method, url, _ := strings.Cut(request, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		status, code, _ := strings.Cut(want, " ")
		if err != nil || !strings.HasPrefix(answer.Status, status) || !strings.Contains(string(body), code) {
			t.Errorf("%s: %s %s (%v), want %s", request, answer.Status, body, err, want)
		}
	}
}

// A directory that does not exist has no images. The error about a broken archive names it.
func TestOpen(t *testing.T) {
	if hosts := open(t, filepath.Join(t.TempDir(), "none")).Hosts(); hosts != nil {
		t.Errorf("no directory has images of %v", hosts)
	}
	good := t.TempDir()
	build(t, good, "example.com/agent:1", "agent", image.Gzip)
	whole, err := os.ReadFile(filepath.Join(good, "example.com-agent-1.tar"))
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string][]byte{"junk": []byte("junk"), "cut off": whole[:len(whole)/2], "empty": {}} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "broken.tar"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.Open(dir); err == nil || !strings.Contains(err.Error(), "broken.tar cannot be served: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

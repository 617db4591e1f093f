package image

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// aRegistry starts a registry of another project.
func aRegistry(t *testing.T) Registry {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return Registry{Host: "localhost:5000", Address: strings.TrimPrefix(server.URL, "http://")}
}

// digestIn asks the registry for the digest of a name.
func digestIn(t *testing.T, r Registry, repository, tag string) string {
	t.Helper()
	answer, err := http.Head("http://" + r.Address + "/v2/" + repository + "/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.Header.Get("Docker-Content-Digest")
}

// What Build writes arrives unchanged, under its own name or under another.
func TestPush(t *testing.T) {
	r, dir := aRegistry(t), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root", "program"), []byte("run"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "agent.tar")
	if err := Build(BuildOptions{Dir: filepath.Join(dir, "root"), Name: "localhost:5000/team/agent:1", Output: file, Compression: Zstd}); err != nil {
		t.Fatal(err)
	}
	contents, err := inspect(file)
	if err != nil {
		t.Fatal(err)
	}
	for as, want := range map[string][2]string{"": {"team/agent", "1"}, "localhost:5000/other": {"other", "latest"}} {
		names, err := r.Push(t.Context(), file, as)
		if diff := cmp.Diff([]string{"localhost:5000/" + want[0] + ":" + want[1]}, names); err != nil || diff != "" {
			t.Errorf("as %q: %v\n%s", as, err, diff)
		}
		if got := digestIn(t, r, want[0], want[1]); got != contents[0].digest.String() {
			t.Errorf("as %q the registry has %q, want %s", as, got, contents[0].digest)
		}
	}
	for as, want := range map[string]string{
		"agent:2":                 "names another registry than localhost:5000: give it a name there, such as --as localhost:5000/library/agent:2",
		"localhost:5001/agent":    "such as --as localhost:5000/agent:latest",
		"localhost:5000/Agent of": "bad image name",
	} {
		if _, err := r.Push(t.Context(), file, as); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("as %q: %v; want %q", as, err, want)
		}
	}
}

// An archive of `docker save` can be pushed as well. Of an image for several platforms,
// Push sends this machine's, even if the archive lacks the others.
func TestPushForeign(t *testing.T) {
	r, dir := aRegistry(t), t.TempDir()
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("localhost:5000/saved:1")
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "saved.tar")
	if err := tarball.WriteToFile(saved, tag, image); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push(t.Context(), saved, ""); err != nil || digestIn(t, r, "saved", "1") == "" {
		t.Errorf("the registry has no image, %v", err)
	}
	several := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: ofPlatform(t, image, "linux", "s390x"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: ofPlatform(t, image, "linux", "amd64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: ofPlatform(t, image, "linux", "arm64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	named := layout.WithAnnotations(map[string]string{ociNameAnnotation: "localhost:5000/several:1"})
	if err := path.AppendIndex(several, named); err != nil {
		t.Fatal(err)
	}
	foreign, err := ofPlatform(t, image, "linux", "s390x").Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "layout", "blobs", "sha256", foreign.Hex)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "several.tar")
	if err := packFile(file, func(w io.Writer) error { return packTree(w, filepath.Join(dir, "layout")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push(t.Context(), file, ""); err != nil || digestIn(t, r, "several", "1") == "" {
		t.Errorf("the registry has no image, %v", err)
	}
}

func ofPlatform(t *testing.T, image v1.Image, system, architecture string) v1.Image {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = system, architecture
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

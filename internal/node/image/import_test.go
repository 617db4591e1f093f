package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testArchive writes a tar file with these members.
func testArchive(t *testing.T, zip bool, members map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range members {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := out.Bytes()
	if zip {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		data = zipped.Bytes()
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestInspectArchive(t *testing.T) {
	index := `{"manifests":[{"digest":"` + digestA + `","annotations":{"org.opencontainers.image.ref.name":"busybox:1.36"}}]}`
	docker := `[{"RepoTags":["busybox:1.36","example.com/a/b"]}]`
	tests := []struct {
		name    string
		zip     bool
		members map[string]string
		want    []archived
		wantErr string
	}{
		{name: "OCI", members: map[string]string{"oci-layout": "{}", "index.json": index}, want: []archived{{"docker.io/library/busybox:1.36", digestA}}},
		{name: "OCI, compressed", zip: true, members: map[string]string{"./index.json": index}, want: []archived{{"docker.io/library/busybox:1.36", digestA}}},
		{name: "docker", members: map[string]string{"manifest.json": docker},
			want: []archived{{name: "docker.io/library/busybox:1.36"}, {name: "example.com/a/b:latest"}}},
		{name: "both", members: map[string]string{"manifest.json": docker, "index.json": index}, want: []archived{{"docker.io/library/busybox:1.36", digestA}}},
		{name: "no image", members: map[string]string{"notes.txt": "hello"}, wantErr: "is not an image archive: it holds neither"},
		{name: "nonsense in the index", members: map[string]string{"index.json": "hello"}, wantErr: "is not an image archive: read index.json"},
		{name: "image without a name", members: map[string]string{"index.json": `{"manifests":[{"digest":"` + digestA + `"}]}`}, wantErr: "names no image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := testArchive(t, tt.zip, tt.members)
			got, err := inspect(file)
			if tt.wantErr == "" && err != nil {
				t.Fatal(err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr) || !strings.Contains(err.Error(), file)) {
				t.Errorf("error = %v, want one with %q and the file's name", err, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(archived{})); diff != "" {
				t.Errorf("contents (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInspectOtherFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.tar")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no archive\n"), 200), 0o600); err != nil {
		t.Fatal(err)
	}
	cut := testArchive(t, false, map[string]string{"blob": strings.Repeat("x", 4096)})
	if err := os.Truncate(cut, 2000); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{text, cut, filepath.Join(dir, "absent.tar"), dir} {
		if _, err := inspect(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("inspect(%s) = %v, want an error that names it", file, err)
		}
	}
}

// Import understands what Build writes.
func TestInspectBuiltImage(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "hello"), []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "built.tar")
	if err := Build(BuildOptions{Dir: root, Name: "busybox:1.36", Entrypoint: []string{"/hello"}, Output: file}); err != nil {
		t.Fatal(err)
	}
	got, err := inspect(file)
	if err != nil || len(got) != 1 || got[0].name != "docker.io/library/busybox:1.36" || got[0].digest.Validate() != nil {
		t.Errorf("inspect = %v (%v)", got, err)
	}
}

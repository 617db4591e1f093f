package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzImageArchive: an archive that is accepted names its images.
func FuzzImageArchive(f *testing.F) {
	for _, member := range []string{"index.json", "manifest.json", "./index.json"} {
		for _, text := range []string{`{"manifests":[{"digest":"sha256:00","annotations":{"io.containerd.image.name":"busybox:1.36"}}]}`, `[{"RepoTags":["busybox:1.36"]}]`, "{"} {
			f.Add(archiveOf(f, member, text))
		}
	}
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		images, err := inspect(file)
		if err == nil && len(images) == 0 {
			t.Error("an archive of no image is taken")
		}
		for _, image := range images {
			if image.name == "" {
				t.Errorf("an image without a name is taken: %+v", images)
			}
		}
	})
}

func archiveOf(f *testing.F, name, text string) []byte {
	f.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		f.Fatal(err)
	}
	return out.Bytes()
}

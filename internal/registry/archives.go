// Package registry serves image archives over the part of the OCI distribution protocol that pulls
// images. So a node fetches an image when a pod needs it, and does not keep images that no pod
// needs.
package registry

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// nameAnnotation is the annotation in an archive's index that has the full name of an
	// image. containerd reads the same one.
	nameAnnotation = "io.containerd.image.name"
	// maxIndex bounds the index of an archive, in bytes.
	maxIndex = 8 << 20
)

// Archives are OCI image layouts, each in a tar file that is not compressed. Their
// indexes are read once, when they are opened. Blobs are read from the files as they
// are served.
type Archives struct {
	files  []*os.File
	images map[string]ocispec.Descriptor // by full name, with the tag
	blobs  map[digest.Digest]blob
}

// blob is a part of a file.
type blob struct {
	in           *os.File
	offset, size int64
	kind         string // media type; "": the index does not say
}

func (b blob) reader() *io.SectionReader { return io.NewSectionReader(b.in, b.offset, b.size) }

// Open opens every archive (*.tar) in dir. A directory that does not exist has none.
func Open(dir string) (*Archives, error) {
	a := &Archives{images: map[string]ocispec.Descriptor{}, blobs: map[digest.Digest]blob{}}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for image archives: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".tar") {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if err := a.add(name); err != nil {
			return nil, errors.Join(fmt.Errorf("image archive %s cannot be served: %w", name, err), a.Close())
		}
	}
	return a, nil
}

// Close closes the files.
func (a *Archives) Close() error {
	var errs []error
	for _, f := range a.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Hosts returns the registries that the images are from, such as registry.k8s.io,
// sorted.
func (a *Archives) Hosts() []string {
	var hosts []string
	for name := range a.images {
		host, _, _ := strings.Cut(name, "/")
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func (a *Archives) add(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	a.files = append(a.files, f)
	var index []byte
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if path.Clean(header.Name) == ocispec.ImageIndexFile {
			if index, err = io.ReadAll(io.LimitReader(r, maxIndex)); err != nil {
				return err
			}
			continue
		}
		if err := a.addBlob(f, header); err != nil {
			return err
		}
	}
	if index == nil {
		return fmt.Errorf("it has no %s", ocispec.ImageIndexFile)
	}
	return a.addIndex(index)
}

// addBlob notes where a file of the archive is, if that file is a blob. f's offset is where its content begins.
func (a *Archives) addBlob(f *os.File, header *tar.Header) error {
	algorithm, encoded, ok := strings.Cut(strings.TrimPrefix(path.Clean(header.Name), ocispec.ImageBlobsDir+"/"), "/")
	if !ok || header.Typeflag != tar.TypeReg {
		return nil
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%s is not a blob: %w", header.Name, err)
	}
	offset, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	a.blobs[d] = blob{in: f, offset: offset, size: header.Size}
	return nil
}

func (a *Archives) addIndex(data []byte) error {
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("read %s: %w", ocispec.ImageIndexFile, err)
	}
	for _, m := range index.Manifests {
		name, err := reference.ParseNormalizedNamed(m.Annotations[nameAnnotation])
		if err != nil {
			return fmt.Errorf("an image has the name %q: %w", m.Annotations[nameAnnotation], err)
		}
		b, ok := a.blobs[m.Digest]
		if !ok {
			return fmt.Errorf("the manifest of %s is missing", name)
		}
		b.kind = m.MediaType
		a.blobs[m.Digest] = b
		a.images[reference.TagNameOnly(name).String()] = m
	}
	return nil
}

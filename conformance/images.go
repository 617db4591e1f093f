package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	imageutils "k8s.io/kubernetes/test/utils/image"
)

// image is an image that the tests ask for, and what stands in for it here.
type image struct {
	id         imageutils.ImageID
	root       string // its root file system, below bin/rootfs/conformance, made by rootfs
	entrypoint []string
	cmd        []string
	user       string
	// what says how close the image is to upstream's. It is in the image's label and in
	// docs/conformance.md.
	what string
}

const (
	agnhostIs  = "Kubernetes' program; tools beside it are Debian's, not Alpine's"
	busyboxIs  = "stand-in: Debian's busybox"
	nginxIs    = "stand-in: busybox's httpd"
	binPath    = "PATH=/usr/local/bin:/usr/bin:/bin"
	whatLabel  = "io.everynode.conformance.image"
	rootfsBase = bin + "/rootfs/conformance"
)

func images() []image {
	agnhost := []string{"/agnhost"}
	httpd := []string{"httpd", "-f", "-p", "80", "-h", "/www"}
	return []image{
		{id: imageutils.Agnhost, root: "agnhost", entrypoint: agnhost, cmd: []string{"pause"}, what: agnhostIs},
		{id: imageutils.AgnhostPrev, root: "agnhost", entrypoint: agnhost, cmd: []string{"pause"}, what: agnhostIs + "; that of the newer image"},
		{id: imageutils.BusyBox, root: "busybox", cmd: []string{"sh"}, what: busyboxIs},
		{id: imageutils.Etcd, root: "etcd", what: "etcd's program, from its module"},
		{id: imageutils.GlibcDnsTesting, root: "agnhost", cmd: []string{"sh"}, what: "stand-in: Debian's bash, dig and getent"},
		{id: imageutils.Kitten, root: "kitten", entrypoint: agnhost, cmd: []string{"test-webserver"}, what: agnhostIs},
		{id: imageutils.Nautilus, root: "nautilus", entrypoint: agnhost, cmd: []string{"test-webserver"}, what: agnhostIs},
		{id: imageutils.Nginx, root: "nginx", cmd: httpd, what: nginxIs},
		{id: imageutils.NginxNew, root: "nginx", cmd: httpd, what: nginxIs},
		{id: imageutils.Nonewprivs, root: "nonewprivs", cmd: []string{"nnp"}, what: "Kubernetes' program, on busybox"},
		{id: imageutils.NonRoot, root: "busybox", cmd: []string{"sh"}, user: "1234", what: busyboxIs},
		{id: imageutils.Pause, root: "../pause", entrypoint: []string{"/pause"}, what: "stand-in: everynode's pause"},
		{id: imageutils.APIServer, root: "sample-apiserver", entrypoint: []string{"/sample-apiserver"}, what: "Kubernetes' program, of this version rather than of the image's"},
	}
}

// imageList describes each image, by name.
func imageList() map[string]string {
	list := map[string]string{}
	for _, img := range images() {
		list[imageutils.GetE2EImage(img.id)] = img.what
	}
	return list
}

// buildImages makes an archive of each image under exactly the name that the tests ask
// for.
func buildImages(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(imagesDir), os.MkdirAll(imagesDir, 0o755)); err != nil {
		return fmt.Errorf("make room for images: %w", err)
	}
	for _, img := range images() {
		if err := img.build(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (img image) build(ctx context.Context) error {
	name := imageutils.GetE2EImage(img.id)
	args := []string{
		"image", "build", filepath.Join(rootfsBase, img.root), "--name", name,
		"--env", binPath, "--label", whatLabel + "=" + img.what,
		"--output", filepath.Join(imagesDir, strconv.Itoa(int(img.id))+".tar"),
	}
	for _, word := range img.entrypoint {
		args = append(args, "--entrypoint", word)
	}
	for _, word := range img.cmd {
		args = append(args, "--cmd", word)
	}
	if img.user != "" {
		args = append(args, "--user", img.user)
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(bin, "everynode"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the image %s: %w: %s", name, err, out)
	}
	fmt.Printf("%s: %s\n", name, img.what)
	return nil
}

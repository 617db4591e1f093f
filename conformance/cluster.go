package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// takeDownTime is how long everynode down may take.
const takeDownTime = 3 * time.Minute

// cluster is a cluster of three nodes that only this run uses. Its address ranges are free on this machine, so
// another cluster may be up beside it.
type cluster struct {
	everynode string
	dataDir   string
}

// startCluster returns a cluster that has the tests' images. When it fails, it leaves none behind.
func startCluster(ctx context.Context, everynode string) (*cluster, error) {
	archives, err := filepath.Glob(filepath.Join(imagesDir, "*.tar"))
	if err != nil {
		return nil, err
	}
	if len(archives) == 0 {
		return nil, fmt.Errorf("%s holds no images for the tests to run: make conformance builds them", imagesDir)
	}
	// The path is short because the paths of Unix sockets below it must be.
	dataDir, err := os.MkdirTemp("", "evc")
	if err != nil {
		return nil, fmt.Errorf("make a data directory: %w", err)
	}
	c := &cluster{everynode: everynode, dataDir: dataDir}
	err = c.everynodeDo(ctx, "up", "--detach", "--set-context=false")
	if err == nil {
		err = c.everynodeDo(ctx, append([]string{"image", "load"}, archives...)...)
	}
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c *cluster) kubeconfig() string { return filepath.Join(c.dataDir, "admin.kubeconfig") }

// stop takes the cluster down, also if the run was interrupted.
func (c *cluster) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), takeDownTime)
	defer cancel()
	if err := c.everynodeDo(ctx, "down", "--purge"); err != nil {
		return fmt.Errorf("%w; it is in %s", err, c.dataDir) // which may still hold mounts of the machine's folders
	}
	if err := os.RemoveAll(c.dataDir); err != nil {
		return fmt.Errorf("delete the cluster's data: %w", err)
	}
	return nil
}

func (c *cluster) everynodeDo(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.everynode, append(args, "--data-dir", c.dataDir)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("everynode %s: %w: %s", args[0], err, out)
	}
	return nil
}

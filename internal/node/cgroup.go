package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
)

const cgroupMount = "/sys/fs/cgroup"

func isCgroupV2() bool { return cgroups.IsCgroup2UnifiedMode() }

// neededControllers are the cgroup controllers without which the kubelet does not
// start.
func neededControllers() []string { return []string{"cpu", "cpuset", "memory", "pids"} }

// checkControllers returns an error that names the cgroup controllers that the
// kernel lacks.
func checkControllers(mount string, v2 bool) error {
	var missing []string
	if v2 {
		have, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read the cgroup controllers: %w; is the cgroup file system mounted at %s?", err, mount)
		}
		for _, name := range neededControllers() {
			if !slices.Contains(strings.Fields(string(have)), name) {
				missing = append(missing, name)
			}
		}
	} else {
		for _, name := range neededControllers() {
			if _, err := os.Stat(filepath.Join(mount, name)); err != nil {
				missing = append(missing, name)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the kernel offers no cgroup controller %s below %s, and a node needs it: mount it, or boot with cgroup_enable=%s",
			strings.Join(missing, ", "), mount, missing[0])
	}
	return nil
}

// prepareCgroup makes the cgroup root, such as /everynode-x/node-1, usable as the
// parent of pods. With cgroup v1 it exists in every hierarchy afterwards; with v2
// its controllers are on. A second call changes nothing.
func prepareCgroup(mount, root string, v2 bool) error {
	if root == "" || root == "/" {
		return nil
	}
	if v2 {
		return prepareCgroupV2(mount, root)
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return fmt.Errorf("list the cgroup hierarchies: %w", err)
	}
	for _, e := range entries {
		// Links are second names of a hierarchy; unified is v2 beside v1.
		if !e.IsDir() || e.Name() == "unified" {
			continue
		}
		if err := prepareHierarchy(filepath.Join(mount, e.Name()), root); err != nil {
			return err
		}
	}
	return nil
}

// prepareHierarchy makes root in one v1 hierarchy. A new cpuset is empty, and
// accepts no process until it has CPUs and memory nodes. It gets those of its
// parent.
func prepareHierarchy(hierarchy, root string) error {
	dir := hierarchy
	for _, name := range strings.Split(strings.Trim(root, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return fmt.Errorf("make the cgroup %s: %w", dir, err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(parent, dir, file); err != nil {
				return fmt.Errorf("fill %s of the cgroup %s: %w", file, dir, err)
			}
		}
	}
	return nil
}

// inherit copies a setting from the parent cgroup when there is one and the
// child's is empty.
func inherit(parent, dir, file string) error {
	have, err := os.ReadFile(filepath.Join(dir, file))
	if os.IsNotExist(err) || (err == nil && len(bytes.TrimSpace(have)) > 0) {
		return nil
	}
	if err != nil {
		return err
	}
	value, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), value, 0o644)
}

// prepareCgroupV2 enables every controller for root and for what is below it.
func prepareCgroupV2(mount, root string) error {
	dir := mount
	names := append([]string{"."}, strings.Split(strings.Trim(root, "/"), "/")...)
	for _, name := range names {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return fmt.Errorf("make the cgroup %s: %w", dir, err)
		}
		have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read the controllers of the cgroup %s: %w", dir, err)
		}
		enable := "+" + strings.Join(strings.Fields(string(have)), " +")
		if enable == "+" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(enable), 0o644); err != nil {
			return fmt.Errorf("enable the cgroup controllers %s below %s: %w; a cgroup other than the root may not contain processes itself", enable, dir, err)
		}
	}
	return nil
}

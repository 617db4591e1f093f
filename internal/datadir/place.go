package datadir

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// systemPaths returns directories that a machine needs for itself. None of them, and none above them, can be a data
// directory, even if it is empty.
func systemPaths() []string {
	return []string{"/bin", "/boot", "/dev/shm", "/etc/ssl", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc/sys", "/root", "/run",
		"/sbin", "/srv", "/sys/fs", "/tmp", "/usr/bin", "/usr/lib", "/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share",
		"/var/backups", "/var/cache", "/var/lib/dpkg", "/var/local", "/var/log", "/var/mail", "/var/opt", "/var/run", "/var/spool", "/var/tmp"}
}

// otherTools returns where other programs keep their state: neither these nor what is below them can be ours.
func otherTools() []string {
	return []string{"/etc/cni", "/etc/kubernetes", "/opt/cni", "/var/lib/cni", "/var/lib/containerd", "/var/lib/docker", "/var/lib/etcd",
		"/var/lib/k0s", "/var/lib/kubelet", "/var/lib/rancher", "/run/containerd", "/run/everynode", "/run/netns", "/var/log"}
}

// virtual are file systems of the kernel.
func virtual() []string { return []string{"/proc", "/sys"} }

// checkPlace refuses a path because of its name. dir is clean and absolute.
func checkPlace(dir string) error {
	const choose = "choose a separate directory with --data-dir, such as /var/lib/everynode"
	for _, system := range systemPaths() {
		if below(system, dir) {
			return fmt.Errorf("%s is a system directory, and cannot be a data directory: %s", dir, choose)
		}
	}
	for _, tool := range append(otherTools(), virtual()...) {
		if below(dir, tool) {
			return fmt.Errorf("%s is in %s, which belongs to other programs: %s", dir, tool, choose)
		}
	}
	if user := homeOf(dir); user != "" {
		return fmt.Errorf("%s is the home directory of %s, and cannot be a data directory: name one inside it, such as %s",
			dir, user, filepath.Join(dir, "everynode"))
	}
	return nil
}

// homeOf returns the person whose home directory dir is; "" if there is none. Service users are not persons: their
// home is where their program keeps its data.
func homeOf(dir string) string {
	if filepath.Dir(dir) == "/home" {
		return filepath.Base(dir)
	}
	file, err := os.Open("/etc/passwd")
	if err != nil {
		return "" // not every machine has one
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 6 || filepath.Clean(fields[5]) != dir {
			continue
		}
		const firstPerson, nobody = 1000, 65534
		if uid, err := strconv.Atoi(fields[2]); err == nil && (uid == 0 || uid >= firstPerson && uid < nobody) {
			return fields[0]
		}
	}
	return ""
}

// below reports whether path is dir or inside it. Both are clean and absolute.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

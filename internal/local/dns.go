package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

const (
	resolverFile = "/etc/resolv.conf"

	// stubDir is where systemd-resolved keeps two files. One names its own loopback address, which no node can
	// reach. The other one, upstreamFile, names the servers that systemd-resolved asks.
	stubDir      = "/run/systemd/resolve"
	upstreamFile = "resolv.conf"
	stubFile     = "stub-resolv.conf"
)

// resolver gives the node a resolver directory of its own if this machine's DNS server is systemd-resolved on
// loopback. Both files in it name the servers that systemd-resolved asks. It returns the bind that mounts the
// directory in the node, or none. The bind is for the whole directory, because systemd-resolved replaces its files,
// and a bind over a file ends with that file.
func (m nodeMounts) resolver() ([]bind, error) {
	upstream, err := stubUpstream(resolverFile, stubDir)
	if err != nil || upstream == nil {
		return nil, err
	}
	dir := filepath.Join(m.dir, "resolve")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("node %s: make its resolver directory: %w", m.node.Name, err)
	}
	for _, name := range []string{upstreamFile, stubFile} {
		if err := os.WriteFile(filepath.Join(dir, name), upstream, 0o644); err != nil {
			return nil, fmt.Errorf("node %s: write its resolver file: %w", m.node.Name, err)
		}
	}
	return []bind{{source: dir, target: stubDir}}, nil
}

// stubUpstream returns the content of systemd-resolved's upstream file if the file at path, the machine's resolver
// file, leads into dir and names only servers on loopback; nil otherwise.
func stubUpstream(path, dir string) ([]byte, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	raw, err := os.ReadFile(real)
	if err != nil {
		return nil, fmt.Errorf("read the DNS servers: %w", err)
	}
	if filepath.Dir(real) != dir || !onlyLoopback(string(raw)) {
		return nil, nil
	}
	raw, err = os.ReadFile(filepath.Join(dir, upstreamFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the DNS servers: %w", err)
	}
	return raw, nil
}

// onlyLoopback reports whether a resolver file names servers, and all of them are on loopback.
func onlyLoopback(text string) bool {
	servers := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err != nil || !a.IsLoopback() {
			return false
		}
		servers++
	}
	return servers > 0
}

// resolverWarning returns a warning about this machine's DNS server, or "".
func resolverWarning() (string, error) {
	raw, err := os.ReadFile(resolverFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the DNS servers: %w", err)
	}
	upstream, err := stubUpstream(resolverFile, stubDir)
	if err != nil || upstream != nil || !onlyLoopback(string(raw)) {
		return "", err
	}
	return fmt.Sprintf("The DNS server of this machine is on its loopback address (%s), where nodes cannot reach it: pulling images and "+
		"names in pods will fail. Name a server of your network in that file, or load images with: everynode image load FILE", resolverFile), nil
}

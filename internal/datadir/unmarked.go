package datadir

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Directories of releases before the mark are recognized by what only everynode writes. A name is not enough: others
// have folders called etcd or pki, too.

// unmarkedKind returns which of everynode's programs made a directory without a mark; "" if none did.
func unmarkedKind(dir string) Kind {
	switch {
	case hasNumber(filepath.Join(dir, "cluster.json"), "version"):
		return Up
	case hasNumber(filepath.Join(dir, "version"), "format"), hasOurAuthority(filepath.Join(dir, "pki", "ca.crt"), filepath.Join(dir, "pki", "ca.key")):
		return Server
	case plain(dir, "agent.lock") && plain(dir, "kubelet.yaml") && plain(dir, "kube-proxy.yaml"),
		plain(dir, "machine-id") && plain(dir, "hostname") && folder(dir, "run-containerd"):
		return Agent
	}
	return ""
}

// onlyBegun reports whether entries are only what a first start leaves if it fails at once. They contain nothing
// useful.
func onlyBegun(entries []string, kind Kind) bool {
	names := []string{"server.lock", "server.log", "change.lock"}
	if kind == Agent {
		names = []string{"agent.lock", "agent.log", "servers.json", "containerd", "log", "kubelet", "run-containerd", "run-netns", "etc-cni", "opt-cni", "var-lib-cni"}
	}
	begun := slices.ContainsFunc(entries, func(name string) bool { return strings.HasSuffix(name, ".lock") })
	return begun && !slices.ContainsFunc(entries, func(name string) bool { return !slices.Contains(names, name) })
}

// hasNumber reports whether a file contains a JSON object with a positive number of this name.
func hasNumber(file, name string) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	object := map[string]any{}
	if err := json.Unmarshal(data, &object); err != nil {
		return false
	}
	number, ok := object[name].(float64)
	return ok && number >= 1
}

// hasOurAuthority reports whether the keys of an everynode server exist. They are copied to each further server
// before its first start.
func hasOurAuthority(crt, key string) bool {
	data, err := os.ReadFile(crt)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !cert.IsCA {
		return false
	}
	_, err = os.Lstat(key)
	return err == nil && cert.Subject.CommonName == "everynode-ca"
}

func plain(dir, name string) bool {
	st, err := os.Lstat(filepath.Join(dir, name))
	return err == nil && st.Mode().IsRegular()
}

func folder(dir, name string) bool {
	st, err := os.Lstat(filepath.Join(dir, name))
	return err == nil && st.IsDir()
}

// outerDir returns the data directory that contains dir; "" if none does.
func outerDir(dir string) (string, Kind) {
	for p := filepath.Dir(dir); p != "/"; p = filepath.Dir(p) {
		outer := &Dir{Path: p}
		if outer.read() == nil {
			return p, outer.mark.Kind
		}
		if kind := unmarkedKind(p); kind != "" {
			return p, kind
		}
	}
	return "", ""
}

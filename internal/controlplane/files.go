package controlplane

import (
	"everynode/internal/controlplane/pki"
)

// KeyFiles returns patterns of all files below pki/ that a server makes or is given.
func KeyFiles() []string {
	patterns := append(sharedFiles(), encryptionFile, pki.ClusterAuthorities, pki.CrossFile, pki.NamedCA+"*.crt", pki.NamedCA+"*.key", pki.KubeletAuthorities)
	for _, name := range []string{pki.KubeletCA, pki.KubeletCA + "-*"} {
		patterns = append(patterns, name+".crt", name+".key")
	}
	for _, name := range leafNames() {
		patterns = append(patterns, name+".crt", name+".key", name+".kubeconfig")
	}
	return patterns
}

// PlainFiles returns the names of the files that a server makes directly in its data directory.
func PlainFiles() []string {
	return []string{"version", "admin.kubeconfig", admissionFile, authenticationFile}
}

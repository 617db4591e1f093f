package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/util/cert"
)

// Input from others does no harm when it is read, whatever it is: make fuzz.

// FuzzToken: a token that is accepted is complete, and an error does not show its
// secret.
func FuzzToken(f *testing.F) {
	for _, text := range []string{"", "abcdef.0123456789abcdef", "abcdef.0123456789abcdef@sha256:" + strings.Repeat("0a", 32),
		"abcdef.0123456789abcdef@sha256:", "abcdef.0123456789abcdeX", "abcdef@sha256.0123456789abcdef"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseToken(text)
		if err != nil {
			if _, secret, _ := strings.Cut(text, "."); len(secret) >= 16 && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the secret of %q: %v", text, err)
			}
			return
		}
		whole := token.id + "." + token.secret
		if token.authority != "" {
			whole += "@" + token.authority
		}
		if len(token.id) != 6 || len(token.secret) != 16 || whole != strings.TrimSuffix(text, "@") {
			t.Errorf("%q is taken for %q", text, whole)
		}
	})
}

// FuzzClusterInfo: what a server says about its CA is certificates, or nothing.
func FuzzClusterInfo(f *testing.F) {
	f.Add("")
	f.Add("apiVersion: v1\nkind: Config\nclusters: [{name: '', cluster: {certificate-authority-data: LS0tLS1CRUdJTg==, server: 'https://10.0.0.1'}}]\n")
	f.Add("clusters: [{cluster: {certificate-authority: /etc/passwd}}]")
	f.Fuzz(func(t *testing.T, text string) {
		ca, err := caOf(text)
		if err != nil {
			return
		}
		if certs, err := cert.ParseCertsPEM(ca); err != nil || len(certs) == 0 {
			t.Errorf("%q is taken for an authority: %v", text, err)
		}
	})
}

// FuzzRegistries: settings that are accepted can be written for containerd.
func FuzzRegistries(f *testing.F) {
	f.Add("mirrors: {docker.io: {endpoint: ['https://10.0.0.1:5000']}}\nconfigs: {'10.0.0.1:5000': {auth: {username: a, password: b}}}\n")
	f.Add("mirrors: {'*': {endpoint: ['http://../..']}}\n")
	f.Add("mirrors: {'../../etc': {}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, parent := filepath.Join(t.TempDir(), "registries.yaml"), t.TempDir()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := readRegistries(file)
		if err != nil {
			return
		}
		if err := r.write(filepath.Join(parent, "certs.d")); err != nil {
			t.Errorf("%q is taken, and cannot be written: %v", text, err)
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) > 1 {
			t.Errorf("%q writes beside its folder: %v, %v", text, entries, err)
		}
	})
}

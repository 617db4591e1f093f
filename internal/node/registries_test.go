package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const registriesExample = `
mirrors:
  docker.io:
    endpoint: [https://mirror.example.com:5443, "https://other.example.com/v2/hub/"]
  "*":
    endpoint: [http://192.0.2.1:5000]
configs:
  mirror.example.com:5443:
    auth: {username: reader, password: 'a"b\c'}
    tls: {ca_file: CA}
  registry.example.com:
    tls: {insecure_skip_verify: true}
`

func TestRegistries(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, []byte("a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := parseRegistries([]byte(strings.ReplaceAll(registriesExample, "CA", ca)))
	if err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(dir, "hosts")
	for range 2 { // the second time in place of the first
		if err := r.write(hosts); err != nil {
			t.Fatal(err)
		}
	}
	for host, want := range map[string]string{
		"docker.io": "server = \"https://registry-1.docker.io\"\n\n[host.\"https://mirror.example.com:5443\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"" + ca + "\"\n" +
			"\n[host.\"https://other.example.com/v2/hub\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n",
		"_default":                "\n[host.\"http://192.0.2.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
		"registry.example.com":    "server = \"https://registry.example.com\"\nskip_verify = true\n",
		"mirror.example.com:5443": "server = \"https://mirror.example.com:5443\"\nca = \"" + ca + "\"\n",
	} {
		got, err := os.ReadFile(filepath.Join(hosts, host, "hosts.toml"))
		if err != nil || string(got) != want {
			t.Errorf("%s:\n%s\nwant:\n%s%v", host, got, want, err)
		}
	}
	const credentials = "  [plugins.\"io.containerd.cri.v1.images\".registry.configs.\"mirror.example.com:5443\".auth]\n    username = \"reader\"\n    password = \"a\\\"b\\\\c\"\n"
	if got := r.credentials(); got != credentials {
		t.Errorf("credentials:\n%s\nwant:\n%s", got, credentials)
	}
}

func TestBadRegistries(t *testing.T) {
	for text, want := range map[string]string{
		"mirrors: {}\n---\nmirrors: {}":                            "more than one document",
		"mirors: {}":                                               `unknown field "mirors"`,
		"mirrors: {docker.io: {endpoint: [mirror]}}":               `"mirror" is not a URL`,
		"mirrors: {docker.io: {endpoint: ['https://u:p@mirror']}}": "names and passwords go to configs",
		"mirrors: {docker.io: {rewrite: {'^a': b}}}":               "containerd cannot rewrite",
		"mirrors: {'../../etc': {endpoint: [https://m]}}":          "is not the host of a registry",
		"mirrors: {'': {endpoint: [https://m]}}":                   "is not the host of a registry",
		"configs: {m: {tls: {cert_file: /a}}}":                     "cert_file and key_file go together",
		"configs: {m: {tls: {ca_file: ca.crt}}}":                   "give an absolute path",
		"configs: {m: {tls: {ca_file: /not/there}}}":               "no such file",
		"configs: {m: {auth: {password: \"a\\u0007\"}}}":           "an unprintable character",
		"configs: {m: {auth: {user: a}}}":                          `unknown field "configs.m.auth.user"`,
	} {
		if _, err := parseRegistries([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(file, []byte("configs: {m: {auth: {username: a, password: b}}}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := CheckRegistries(file); err == nil || !strings.Contains(err.Error(), "chmod 600 "+file) {
		t.Errorf("passwords that others read: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckRegistries(file); err != nil {
		t.Error(err)
	}
}

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"everynode/internal/datadir"
	"everynode/internal/strictyaml"
)

// registries configure registries and their mirrors. The file has the format of k3s
// and RKE2 (registries.yaml), whose only specification is docs.k3s.io. Rewrites of
// image names are not supported, because containerd has none.
type registries struct {
	// Mirrors are the endpoints to ask for a registry's images, by the registry's
	// host; "*" stands for those that are not named.
	Mirrors map[string]registryMirror `json:"mirrors,omitempty"`
	// Configs are how to connect to a host, a registry or a mirror.
	Configs map[string]registryHost `json:"configs,omitempty"`
}

type registryMirror struct {
	Endpoints []string          `json:"endpoint,omitempty"`
	Rewrites  map[string]string `json:"rewrite,omitempty"`
}

type registryHost struct {
	Auth *registryAuth `json:"auth,omitempty"`
	TLS  *registryTLS  `json:"tls,omitempty"`
}

type registryAuth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"` // base64 of username:password
	IdentityToken string `json:"identity_token,omitempty"`
}

type registryTLS struct {
	CAFile             string `json:"ca_file,omitempty"`
	CertFile           string `json:"cert_file,omitempty"`
	KeyFile            string `json:"key_file,omitempty"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify,omitempty"`
}

// anyRegistry stands for the registries that the file does not name. anyRegistryDir
// is containerd's name for them.
const anyRegistry, anyRegistryDir = "*", "_default"

// readAllRegistries reads files. If several name a host, the first of them applies.
func readAllRegistries(files []string) (registries, error) {
	all := registries{Mirrors: map[string]registryMirror{}, Configs: map[string]registryHost{}}
	for _, file := range slices.Backward(files) {
		r, err := readRegistries(file)
		if err != nil {
			return registries{}, err
		}
		maps.Copy(all.Mirrors, r.Mirrors)
		maps.Copy(all.Configs, r.Configs)
	}
	return all, nil
}

// readRegistries reads the file; "" is not a file. Every error names it.
func readRegistries(file string) (registries, error) {
	if file == "" {
		return registries{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return registries{}, fmt.Errorf("read --registry-config: %w", err)
	}
	r, err := parseRegistries(text)
	switch {
	case err != nil:
	case r.secret():
		err = datadir.CheckSecret(file)
	default:
		err = datadir.CheckTrusted(file) // whoever changes it chooses what nodes run
	}
	if err != nil {
		return registries{}, fmt.Errorf("--registry-config %s: %w", file, err)
	}
	return r, nil
}

// CheckRegistries returns what is wrong with a file of registries, or nil.
func CheckRegistries(file string) error {
	_, err := readRegistries(file)
	return err
}

func parseRegistries(text []byte) (r registries, err error) {
	strict, err := strictyaml.Unmarshal(text, &r)
	if err != nil {
		return r, err
	}
	return r, errors.Join(append(strict, r.check())...)
}

func (r registries) check() error {
	var errs []error
	for _, host := range slices.Sorted(maps.Keys(r.Mirrors)) {
		m := r.Mirrors[host]
		errs = append(errs, checkRegistryHost("mirrors", host))
		if len(m.Rewrites) > 0 {
			errs = append(errs, fmt.Errorf("mirrors.%s.rewrite: containerd cannot rewrite the names of images: give the mirror's path in the endpoint, such as https://mirror.example.com/v2/hub", host))
		}
		for _, e := range m.Endpoints {
			if u, err := url.Parse(e); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
				errs = append(errs, fmt.Errorf("mirrors.%s.endpoint: %q is not a URL such as https://mirror.example.com; names and passwords go to configs", host, e))
			}
		}
	}
	for _, host := range slices.Sorted(maps.Keys(r.Configs)) {
		errs = append(errs, checkRegistryHost("configs", host))
		if t := r.Configs[host].TLS; t != nil {
			errs = append(errs, t.check(host))
		}
		if a := r.Configs[host].Auth; a != nil && strings.ContainsFunc(a.Username+a.Password+a.Auth+a.IdentityToken, func(r rune) bool { return !unicode.IsPrint(r) }) {
			errs = append(errs, fmt.Errorf("configs.%s.auth: it contains an unprintable character", host))
		}
	}
	return errors.Join(errs...)
}

// checkRegistryHost refuses what is not a host, and what would lead to another
// folder.
func checkRegistryHost(section, host string) error {
	if u, err := url.Parse("//" + host); host != anyRegistry && (err != nil || u.Host != host || host == "" || strings.ContainsAny(host, "/\\@")) {
		return fmt.Errorf("%s: %q is not the host of a registry, such as docker.io or registry.example.com:5000", section, host)
	}
	return nil
}

func (t *registryTLS) check(host string) error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return fmt.Errorf("configs.%s.tls: cert_file and key_file go together: give both", host)
	}
	for _, file := range []string{t.CAFile, t.CertFile, t.KeyFile} {
		if file == "" {
			continue
		}
		if !filepath.IsAbs(file) {
			return fmt.Errorf("configs.%s.tls: %s: give an absolute path", host, file)
		}
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("configs.%s.tls: %w", host, err)
		}
	}
	return nil
}

// secret reports whether the file has passwords.
func (r registries) secret() bool {
	for _, c := range r.Configs {
		if c.Auth != nil {
			return true
		}
	}
	return false
}

// write writes the settings to a directory for containerd, in place of what was
// there.
func (r registries) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace the settings of registries: %w", err)
	}
	hosts := map[string]registryMirror{}
	maps.Copy(hosts, r.Mirrors)
	for host, c := range r.Configs {
		if _, mirrored := hosts[host]; !mirrored && c.TLS != nil {
			hosts[host] = registryMirror{}
		}
	}
	for host, m := range hosts {
		name := host
		if host == anyRegistry {
			name = anyRegistryDir
		}
		if err := writeFile(filepath.Join(dir, name, "hosts.toml"), []byte(r.hostsFile(host, m))); err != nil {
			return err
		}
	}
	return nil
}

// hostsFile is a registry's hosts.toml. containerd asks the mirrors in their order,
// and then the registry itself.
func (r registries) hostsFile(host string, m registryMirror) string {
	var b strings.Builder
	if host != anyRegistry {
		server := host
		if host == "docker.io" {
			server = "registry-1.docker.io" // its address differs from its name
		}
		fmt.Fprintf(&b, "server = %s\n%s", strconv.Quote("https://"+server), r.tlsFields(host, ""))
	}
	for _, e := range m.Endpoints {
		u, err := url.Parse(e)
		if err != nil {
			continue // check has refused it
		}
		fmt.Fprintf(&b, "\n[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", strconv.Quote(strings.TrimSuffix(e, "/")))
		if strings.Trim(u.Path, "/") != "" {
			b.WriteString("  override_path = true\n")
		}
		b.WriteString(r.tlsFields(u.Host, "  "))
	}
	return b.String()
}

func (r registries) tlsFields(host, indent string) string {
	t := r.Configs[host].TLS
	if t == nil {
		return ""
	}
	var b strings.Builder
	if t.CAFile != "" {
		fmt.Fprintf(&b, "%sca = %s\n", indent, strconv.Quote(t.CAFile))
	}
	if t.CertFile != "" {
		fmt.Fprintf(&b, "%sclient = [[%s, %s]]\n", indent, strconv.Quote(t.CertFile), strconv.Quote(t.KeyFile))
	}
	if t.InsecureSkipVerify {
		fmt.Fprintf(&b, "%sskip_verify = true\n", indent)
	}
	return b.String()
}

// credentials are the passwords, by host, in the format of containerd's
// configuration.
func (r registries) credentials() string {
	var b strings.Builder
	for _, host := range slices.Sorted(maps.Keys(r.Configs)) {
		auth := r.Configs[host].Auth
		if auth == nil {
			continue
		}
		fmt.Fprintf(&b, "  [plugins.\"io.containerd.cri.v1.images\".registry.configs.%s.auth]\n", strconv.Quote(host))
		for _, f := range []struct{ name, value string }{
			{"username", auth.Username}, {"password", auth.Password}, {"auth", auth.Auth}, {"identitytoken", auth.IdentityToken},
		} {
			if f.value != "" {
				fmt.Fprintf(&b, "    %s = %s\n", f.name, strconv.Quote(f.value))
			}
		}
	}
	return b.String()
}

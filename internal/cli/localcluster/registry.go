package localcluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"everynode/internal/addons"
	"everynode/internal/atomicfile"
	"everynode/internal/datadir"
	"everynode/internal/local"
	"everynode/internal/logfile"
)

const (
	registryGrace    = 10 * time.Second
	registryDeadline = 30 * time.Second
)

// Registry is the local registry of a cluster: a process on this machine, its data, and what nodes know of it.
type Registry struct {
	Host    string         // the name that people push to and pods name
	Push    netip.AddrPort // where people push to
	pull    netip.AddrPort // where nodes pull from
	exe     string
	dataDir string
	archive string // the program's file
	wanted  bool
}

// Registry is the cluster's registry. Wanted reports whether the cluster has one.
func (c *Cluster) Registry() *Registry {
	r := &Registry{Host: c.RegistryHost(), exe: c.exe, dataDir: c.DataDir}
	r.Push, r.pull = c.RegistryAddresses()
	on := c.addons()
	if addon, has := on.find(addons.Registry); has {
		r.archive, r.wanted = on.archive(addon), true
	}
	return r
}

// Wanted reports whether the cluster is to have the registry.
func (r *Registry) Wanted() bool { return r.wanted }

func (r *Registry) dir() string { return filepath.Join(r.dataDir, "registry") }

// Lock is the lock file that its process holds while it runs.
func (r *Registry) Lock() string { return filepath.Join(r.dataDir, "registry.lock") }

// Log is its log.
func (r *Registry) Log() string { return filepath.Join(r.dataDir, "registry.log") }

// certificate is the file of the certificate by which nodes know the registry. The registry writes it when it
// listens.
func (r *Registry) certificate() string { return filepath.Join(r.dir(), "ca.crt") }

// nodesFile is the file that tells nodes about the registry, in the format of --registry-config.
func (r *Registry) nodesFile() string { return filepath.Join(r.dir(), "nodes.yaml") }

// process describes the process of the local registry.
func (r *Registry) process() local.Process {
	return local.Process{
		Name: "registry",
		Argv: []string{r.exe, "become", "--lock", r.Lock(), "--", r.archive,
			"-data", r.dir(), "-push", r.Push.String(), "-pull", r.pull.String()},
		Log:      r.Log(),
		LockFile: r.Lock(),
	}
}

// startRegistry starts the local registry, if the cluster is to have one, and waits
// until it answers.
func (s *Starting) startRegistry(ctx context.Context) error {
	registry := s.cluster.Registry()
	if !registry.Wanted() {
		return nil
	}
	done := s.progress.Step()
	if err := os.MkdirAll(registry.dir(), 0o700); err != nil {
		return fmt.Errorf("make the folder of the registry: %w", err)
	}
	if err := registry.tellNodes(); err != nil {
		return err
	}
	if _, runs := datadir.Running(registry.Lock()); !runs {
		if err := logfile.SetAside(registry.Log()); err != nil {
			return err
		}
		if _, err := local.Spawn(ctx, registry.process()); err != nil {
			return err
		}
	}
	if err := registry.wait(ctx); err != nil {
		return err
	}
	done("registry at %s", registry.Host)
	return nil
}

// tellNodes writes the file that tells nodes at which address to reach the registry, which they know by the name that
// users push to.
func (r *Registry) tellNodes() error {
	text, err := yaml.Marshal(map[string]any{
		"mirrors": map[string]any{r.Host: map[string]any{"endpoint": []string{"https://" + r.pull.String()}}},
		"configs": map[string]any{r.pull.String(): map[string]any{"tls": map[string]string{"ca_file": r.certificate()}}},
	})
	if err == nil {
		err = atomicfile.Write(r.nodesFile(), text)
	}
	if err != nil {
		return fmt.Errorf("tell the nodes of the registry: %w", err)
	}
	return nil
}

// wait waits until the registry answers. It fails if the process ends. Only the registry can answer with the
// certificate that it has written, so it is not another program.
func (r *Registry) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registryDeadline)
	defer cancel()
	var last error
	err := wait.PollUntilContextCancel(ctx, 25*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if _, runs := datadir.Running(r.Lock()); !runs {
			return false, fmt.Errorf("the registry ended: %s\nIts log is %s; `everynode up --without %s` does without it", local.LastError(r.Log()), r.Log(), addons.Registry)
		}
		last = r.probe(ctx)
		return last == nil, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the registry does not answer after %s (%w); its log is %s", registryDeadline, last, r.Log())
	}
	return err
}

func (r *Registry) probe(ctx context.Context) error {
	certificate, err := os.ReadFile(r.certificate())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.pull.String()+"/v2/", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", answer.Status)
	}
	return nil
}

// Stop stops its process.
func (r *Registry) Stop(ctx context.Context) error {
	return local.Stop(ctx, r.Lock(), registryGrace)
}

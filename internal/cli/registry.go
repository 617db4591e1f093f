package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"everynode/internal/addons"
	"everynode/internal/atomicfile"
	"everynode/internal/cli/console"
	"everynode/internal/datadir"
	"everynode/internal/local"
	"everynode/internal/logfile"
	"everynode/internal/node"
)

const (
	registryGrace    = 10 * time.Second
	registryDeadline = 30 * time.Second
)

// registryAddon is the local registry, if the cluster has one.
func (m *machine) registryAddon() (addons.Addon, bool) {
	for _, addon := range m.addons() {
		if addon.Name == addons.Registry {
			return addon, true
		}
	}
	return addons.Addon{}, false
}

func (m *machine) hasRegistry() bool {
	_, has := m.registryAddon()
	return has
}

func (m *machine) registryDir() string { return filepath.Join(m.DataDir, "registry") }

func (m *machine) registryLock() string { return filepath.Join(m.DataDir, "registry.lock") }

func (m *machine) registryLog() string { return filepath.Join(m.DataDir, "registry.log") }

// registryCertificate is what nodes know the registry by. It writes it when it listens.
func (m *machine) registryCertificate() string { return filepath.Join(m.registryDir(), "ca.crt") }

// localRegistryFile tells nodes of the registry, in the format of --registry-config.
func (m *machine) localRegistryFile() string { return filepath.Join(m.registryDir(), "nodes.yaml") }

// registry describes the process of the local registry.
func (m *machine) registry(addon addons.Addon) local.Process {
	push, pull := m.RegistryAddresses()
	return local.Process{
		Name: "registry",
		Argv: []string{m.exe, "become", "--lock", m.registryLock(), "--", m.archive(addon),
			"-data", m.registryDir(), "-push", push.String(), "-pull", pull.String()},
		Log:      m.registryLog(),
		LockFile: m.registryLock(),
	}
}

// startRegistry starts the local registry, if the cluster is to have one, and waits
// until it answers.
func (s *starting) startRegistry(ctx context.Context) error {
	addon, has := s.cluster.registryAddon()
	if !has {
		return nil
	}
	done := s.progress.step()
	if err := os.MkdirAll(s.cluster.registryDir(), 0o700); err != nil {
		return fmt.Errorf("make the folder of the registry: %w", err)
	}
	if err := s.cluster.tellNodes(); err != nil {
		return err
	}
	if _, runs := datadir.Running(s.cluster.registryLock()); !runs {
		if err := logfile.SetAside(s.cluster.registryLog()); err != nil {
			return err
		}
		if _, err := local.Spawn(ctx, s.cluster.registry(addon)); err != nil {
			return err
		}
	}
	if err := s.cluster.waitRegistry(ctx); err != nil {
		return err
	}
	done("registry at %s", s.cluster.RegistryHost())
	return nil
}

// tellNodes writes down for nodes at which address the registry is, that they know
// by the name that people push to.
func (m *machine) tellNodes() error {
	_, pull := m.RegistryAddresses()
	text, err := yaml.Marshal(map[string]any{
		"mirrors": map[string]any{m.RegistryHost(): map[string]any{"endpoint": []string{"https://" + pull.String()}}},
		"configs": map[string]any{pull.String(): map[string]any{"tls": map[string]string{"ca_file": m.registryCertificate()}}},
	})
	if err == nil {
		err = atomicfile.Write(m.localRegistryFile(), text)
	}
	if err != nil {
		return fmt.Errorf("tell the nodes of the registry: %w", err)
	}
	return nil
}

// waitRegistry waits until the registry answers, or has ended. What answers with the
// certificate that it has written is the registry, and not another program.
func (m *machine) waitRegistry(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registryDeadline)
	defer cancel()
	var last error
	err := wait.PollUntilContextCancel(ctx, 25*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if _, runs := datadir.Running(m.registryLock()); !runs {
			return false, fmt.Errorf("the registry ended: %s\nIts log is %s; `everynode up --without %s` does without it", local.LastError(m.registryLog()), m.registryLog(), addons.Registry)
		}
		last = m.probeRegistry(ctx)
		return last == nil, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the registry does not answer after %s (%w); its log is %s", registryDeadline, last, m.registryLog())
	}
	return err
}

func (m *machine) probeRegistry(ctx context.Context) error {
	certificate, err := os.ReadFile(m.registryCertificate())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	_, pull := m.RegistryAddresses()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+pull.String()+"/v2/", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
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

func (m *machine) stopRegistry(ctx context.Context) error {
	return local.Stop(ctx, m.registryLock(), registryGrace)
}

func (cmd imageCommands) pushCommand() *cobra.Command {
	name := ""
	c := &cobra.Command{
		Use:   "push FILE...",
		Short: "Push image archives (OCI or docker-archive) to the cluster's registry",
		Long: `Push image archives to the registry of a cluster that has one (up --with registry), under
the names that they have, which begin with the registry, as localhost:5000/agent:1. Any
other tool can push there as well.`,
		Example: `  everynode image build rootfs --name localhost:5000/agent:1 --entrypoint /agent --output agent.tar
  everynode image push agent.tar
  everynode image push other.tar --name localhost:5000/other:2`,
		Args: console.AtLeastOne("archive"),
		RunE: func(c *cobra.Command, files []string) error {
			if name != "" && len(files) > 1 {
				return console.Usage(errors.New("--name is for one archive: push them one by one"))
			}
			return cmd.push(c.Context(), files, name)
		},
	}
	cmd.cluster.addFlags(c)
	c.Flags().StringVar(&name, "name", "", "another name for the image")
	return c
}

func (cmd imageCommands) push(ctx context.Context, files []string, name string) error {
	if err := areFiles(files); err != nil {
		return err
	}
	m, err := cmd.cluster.open()
	if err != nil {
		return err
	}
	if !m.hasRegistry() {
		return fmt.Errorf("the cluster has no registry: stop it with `everynode down`, and start it with `everynode up --%s %s`; or load the image into the nodes with `everynode image load`", withFlag, addons.Registry)
	}
	if _, runs := datadir.Running(m.registryLock()); !runs {
		return errors.New("the registry does not run: start what is missing with `everynode up`")
	}
	// The store of blobs would tell what file system it is on.
	logrus.SetLevel(logrus.ErrorLevel)
	push, _ := m.RegistryAddresses()
	to := node.Registry{Host: m.RegistryHost(), Address: push.String()}
	for _, file := range files {
		names, err := to.Push(ctx, file, name)
		for _, pushed := range names {
			fmt.Fprintf(cmd.Out, "%s pushed\n", pushed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

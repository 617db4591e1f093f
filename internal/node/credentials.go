package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
)

// join makes sure that the kubelet can start: with the node's own credentials,
// or else with bootstrap credentials that the token vouches for. It writes the
// cluster's CA for the kubelet's server.
func join(ctx context.Context, cfg Config) error {
	err := checkCredentials(ctx, cfg)
	if err == nil {
		return keepCredentials(cfg)
	}
	if cfg.Token == "" {
		return needsToken(cfg, err)
	}
	token, perr := parseToken(cfg.Token)
	if perr != nil {
		return perr
	}
	cfg.Log.Info("joining the cluster", "servers", cfg.hosts, "token", token.id+".***", "because", err)
	ca, err := newDiscovery("", token, cfg.Log).any(ctx, cfg.hosts)
	if err != nil {
		return err
	}
	bootstrap, err := bootstrapKubeconfig(cfg.api, ca, token)
	if err != nil {
		return err
	}
	if err := forgetCredentials(cfg); err != nil {
		return err
	}
	if err := writeFile(cfg.caFile(), ca); err != nil {
		return err
	}
	return writeFile(cfg.bootstrapKubeconfig(), bootstrap)
}

// checkJoinable finds out what the join would fail for on this side, before
// anything is done: a missing or malformed token.
func checkJoinable(cfg Config) error {
	err := credentialsUsable(cfg.kubeconfig(), time.Now())
	if err == nil {
		return nil
	}
	if cfg.Token == "" {
		return needsToken(cfg, err)
	}
	_, err = parseToken(cfg.Token)
	return err
}

func needsToken(cfg Config, because error) error {
	return fmt.Errorf("this machine cannot join %s without a token: %w; %s, and give it with --token", strings.Join(cfg.Servers, ", "), because, newToken)
}

// checkCredentials says why the node's own credentials cannot be used, if so.
// A server that does not answer is no reason: it may come up later.
func checkCredentials(ctx context.Context, cfg Config) error {
	if err := credentialsUsable(cfg.kubeconfig(), time.Now()); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags(cfg.api, cfg.kubeconfig())
	if err != nil {
		return fmt.Errorf("read the node's credentials: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = whoAmI(ctx, config)
	switch {
	case err == nil:
		return nil
	case isCertificateError(err):
		return fmt.Errorf("it is of another cluster than the one at that address: %w", err)
	case apierrors.IsUnauthorized(err):
		return errors.New("the cluster does not accept its credentials any more")
	default:
		cfg.Log.Warn("no API server answers, going on with what is known", "servers", cfg.hosts, "err", err)
		return nil
	}
}

// credentialsUsable says why a kubeconfig with a client certificate cannot be
// used at a time, if so: not there, unreadable, or expired.
func credentialsUsable(kubeconfig string, now time.Time) error {
	if _, err := os.Stat(kubeconfig); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("it has not joined yet")
		}
		return fmt.Errorf("look for the node's credentials: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("the node's credentials are unreadable: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(config.CertFile, config.KeyFile)
	if err != nil {
		return fmt.Errorf("the node's certificate is unreadable: %w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("the node's certificate is unreadable: %w", err)
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("the node's certificate expired at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// keepCredentials points credentials that work at where the API is reached now,
// writes the CA in them for the kubelet's server, and drops the token.
func keepCredentials(cfg Config) error {
	config, err := clientcmd.LoadFromFile(cfg.kubeconfig())
	if err != nil {
		return fmt.Errorf("read the node's credentials: %w", err)
	}
	for _, cluster := range config.Clusters {
		if err := writeFile(cfg.caFile(), cluster.CertificateAuthorityData); err != nil {
			return err
		}
		if cluster.Server == cfg.api {
			continue
		}
		cluster.Server = cfg.api
		data, err := clientcmd.Write(*config)
		if err != nil {
			return fmt.Errorf("render the node's credentials: %w", err)
		}
		if err := writeFile(cfg.kubeconfig(), data); err != nil {
			return err
		}
	}
	return dropBootstrap(cfg)
}

// forgetCredentials removes credentials that are of no use, so that the kubelet
// asks for new ones.
func forgetCredentials(cfg Config) error {
	if err := os.Remove(cfg.kubeconfig()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the node's old credentials: %w", err)
	}
	for _, pattern := range kubeletFiles() {
		files, err := filepath.Glob(cfg.path("pki", pattern))
		if err != nil {
			return fmt.Errorf("look for the node's old certificates: %w", err)
		}
		for _, file := range files {
			if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove the node's old certificates: %w", err)
			}
		}
	}
	return nil
}

// kubeletFiles are the files that a kubelet keeps below pki/. They are deleted
// by their names: what else is there is not the kubelet's.
func kubeletFiles() []string {
	return []string{"kubelet-client-*.pem", "kubelet-server-*.pem", "kubelet-client.key.tmp", "kubelet.crt", "kubelet.key"}
}

// knownCA returns the CA (PEM) of the cluster that the node has joined; nil
// when it has not.
func (cfg Config) knownCA() ([]byte, error) {
	ca, err := os.ReadFile(cfg.caFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	return ca, nil
}

func dropBootstrap(cfg Config) error {
	if err := os.Remove(cfg.bootstrapKubeconfig()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the bootstrap credentials: %w", err)
	}
	return nil
}

// waitForCredentials returns once the kubelet has its certificate, and removes
// the bootstrap credentials then.
func waitForCredentials(ctx context.Context, cfg Config) error {
	logged := time.Now()
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) {
		err := credentialsUsable(cfg.kubeconfig(), time.Now())
		if err != nil && time.Since(logged) > 15*time.Second {
			logged = time.Now()
			cfg.Log.Warn("the kubelet has no certificate yet; if its request waits for approval, see: everynode kubectl get csr", "err", err)
		}
		return err == nil, nil
	})
	if err != nil {
		return err
	}
	return dropBootstrap(cfg)
}

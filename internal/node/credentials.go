package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"

	"everynode/internal/datadir"
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
	if token.authority == "" && !cfg.Local {
		cfg.Log.Warn("the token does not name the cluster's CA: anyone who knows the token can pose as the cluster to this machine; " + newToken)
	}
	ca, err := newDiscovery("", token, cfg.Log).any(ctx, cfg.hosts)
	if err != nil {
		return err
	}
	if ca, err = sameCluster(cfg, ca); err != nil {
		return err
	}
	bootstrap, err := bootstrapKubeconfig(cfg.api, ca, token)
	if err != nil {
		return err
	}
	if err := forgetCredentials(cfg, asksAgain(cfg, bootstrap)); err != nil {
		return err
	}
	if err := writeFile(cfg.files().ca(), ca); err != nil {
		return err
	}
	return writeFile(cfg.files().bootstrapKubeconfig(), bootstrap)
}

// sameCluster refuses to move a machine from the cluster that it has joined to one with
// another CA (PEM), unless cfg.Rejoin allows that. That the other cluster knows the token
// proves little: so does every machine that was given the token. Of the CAs of its own
// cluster it returns those that the machine knows already. The machine learns the others
// later, from a server that it trusts.
func sameCluster(cfg Config, ca []byte) ([]byte, error) {
	known, err := cfg.files().knownCA()
	if err != nil || cfg.Rejoin || known == nil {
		return ca, err
	}
	ours, err := cert.ParseCertsPEM(known)
	if err != nil {
		return nil, fmt.Errorf("read the CA of the cluster that this machine has joined (%s): %w; to join with the token as a new machine: --rejoin", cfg.files().ca(), err)
	}
	theirs, err := cert.ParseCertsPEM(ca)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	both := among(theirs, ours)
	if len(both) == 0 {
		return nil, fmt.Errorf("the cluster at %s has a different CA from the one that this machine has joined: it is another cluster, or somebody poses as it, or its CA was rotated while this machine was away; "+
			"check --server, or, to join that one instead, add --rejoin", strings.Join(cfg.Servers, ", "))
	}
	return cert.EncodeCertificates(both...)
}

// checkJoinable finds what would make the join fail on this side, before anything is
// changed: a missing or malformed token.
func checkJoinable(cfg Config) error {
	err := credentialsUsable(cfg.files().kubeconfig(), time.Now())
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
	if cfg.NoToken != "" {
		because = fmt.Errorf("%w, and %s", because, cfg.NoToken)
	}
	return fmt.Errorf("this machine cannot join %s without a token: %w; %s, and give it with --token", strings.Join(cfg.Servers, ", "), because, newToken)
}

// checkCredentials returns why the node's own credentials cannot be used, or nil. A server
// that does not answer is not a reason: it may come up later.
func checkCredentials(ctx context.Context, cfg Config) error {
	if err := credentialsUsable(cfg.files().kubeconfig(), time.Now()); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags(cfg.api, cfg.files().kubeconfig())
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
		return fmt.Errorf("it belongs to a different cluster from the one at that address, or was made before that cluster's CA was rotated: %w", err)
	case apierrors.IsUnauthorized(err):
		return errors.New("the cluster no longer accepts its credentials")
	default:
		cfg.Log.Warn("no API server answers; continuing with the saved settings", "servers", cfg.hosts, "err", err)
		return nil
	}
}

// credentialsUsable returns why a kubeconfig with a client certificate cannot be used at
// the time now, or nil: it does not exist, is unreadable, or has expired.
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

// keepCredentials keeps credentials that work. It points them at the current address of
// the API, writes the CA in them for the kubelet's server, and deletes the bootstrap
// credentials.
func keepCredentials(cfg Config) error {
	config, err := clientcmd.LoadFromFile(cfg.files().kubeconfig())
	if err != nil {
		return fmt.Errorf("read the node's credentials: %w", err)
	}
	for _, cluster := range config.Clusters {
		if err := writeFile(cfg.files().ca(), cluster.CertificateAuthorityData); err != nil {
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
		if err := writeFile(cfg.files().kubeconfig(), data); err != nil {
			return err
		}
	}
	return dropBootstrap(cfg)
}

// asksAgain reports whether the kubelet has used these bootstrap credentials for a request
// already.
func asksAgain(cfg Config, bootstrap []byte) bool {
	before, err := os.ReadFile(cfg.files().bootstrapKubeconfig())
	return err == nil && bytes.Equal(before, bootstrap)
}

// forgetCredentials removes credentials that no longer work, so that the kubelet requests
// new ones. With keepRequest it keeps the key of a request that has no answer yet: the
// cluster may have given the node's name to that key, and then gives it to no other. With
// another token the key must not stay: the kubelet would find its former request, which
// was made with the first token.
func forgetCredentials(cfg Config, keepRequest bool) error {
	for _, file := range []string{cfg.files().kubeconfig(), cfg.files().dropped()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the node's old credentials: %w", err)
		}
	}
	for _, pattern := range kubeletFiles() {
		if pattern == requestedKey && keepRequest {
			continue
		}
		files, err := filepath.Glob(cfg.files().path("pki", pattern))
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

// requestedKey is the file in which a kubelet keeps its key until it has its first
// certificate.
const requestedKey = "kubelet-client.key.tmp"

// kubeletFiles are the files that a kubelet keeps below pki/. They are deleted by name,
// because other files there are not the kubelet's.
func kubeletFiles() []string {
	return []string{"kubelet-client-*.pem", "kubelet-server-*.pem", requestedKey, "kubelet.crt", "kubelet.key"}
}

// checkSecrets refuses credentials of the node that others can read.
func (d nodeFiles) checkSecrets() error {
	return errors.Join(datadir.CheckSecrets(d.path("pki"), kubeletFiles()...),
		datadir.CheckSecrets(string(d), filepath.Base(d.kubeconfig()), filepath.Base(d.bootstrapKubeconfig())))
}

// knownCA returns the CA (PEM) of the cluster that the node has joined; nil if it has not
// joined one.
func (d nodeFiles) knownCA() ([]byte, error) {
	ca, err := os.ReadFile(d.ca())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	return ca, nil
}

func dropBootstrap(cfg Config) error {
	if err := os.Remove(cfg.files().bootstrapKubeconfig()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the bootstrap credentials: %w", err)
	}
	return nil
}

// waitForCredentials waits until the kubelet has its certificate, and then removes the
// bootstrap credentials.
func waitForCredentials(ctx context.Context, cfg Config) error {
	said := ""
	look := time.NewTicker(heldEvery)
	defer look.Stop()
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := credentialsUsable(cfg.files().kubeconfig(), time.Now())
		if err == nil {
			return true, nil
		}
		select {
		case <-look.C:
			if why := heldBecause(ctx, cfg, err); why != said {
				said = why
				cfg.Log.Warn("the kubelet has no certificate yet; to see whether its request waits for approval: everynode kubectl get csr", "because", why)
			}
		default:
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	return dropBootstrap(cfg)
}

// heldEvery is how often a machine that waits for its certificate asks why.
const heldEvery = 3 * time.Second

// heldBecause is what the cluster says about this machine's request, or else why
// its credentials cannot be used.
func heldBecause(ctx context.Context, cfg Config, unusable error) string {
	config, err := clientcmd.BuildConfigFromFlags("", cfg.files().bootstrapKubeconfig())
	if err != nil {
		return unusable.Error() // the file no longer exists: the kubelet is about to use its own credentials
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, heldEvery)
	defer cancel()
	list, err := client.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{
		FieldSelector: "spec.signerName=" + certv1.KubeAPIServerClientKubeletSignerName,
	})
	if err != nil {
		return fmt.Sprintf("%v; ask about its request: %v", unusable, err)
	}
	return reasonOf(list.Items, cfg, unusable)
}

// reasonOf returns what the cluster says about the newest request for this machine on
// which it has said anything; if there is none, why the credentials cannot be used.
func reasonOf(list []certv1.CertificateSigningRequest, cfg Config, unusable error) string {
	reason, newest := unusable.Error(), time.Time{}
	for _, csr := range list {
		if csr.CreationTimestamp.Time.Before(newest) || !asksFor(csr, cfg.Name) {
			continue
		}
		for _, c := range csr.Status.Conditions {
			reason, newest = c.Message, csr.CreationTimestamp.Time
		}
	}
	return reason
}

// asksFor reports whether a request is for the certificate of a node.
func asksFor(csr certv1.CertificateSigningRequest, node string) bool {
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return false
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	return err == nil && request.Subject.CommonName == "system:node:"+node
}

package node

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
)

// newToken says how to get a token that works; errors about tokens end with it.
const newToken = "make a new one on the control plane's machine with: everynode token create"

// bootstrapToken is a parsed join token. Only its ID and authority may be shown.
type bootstrapToken struct {
	id, secret string
	authority  string // sha256:HEX of the CA's public key; "" when the token names none
}

// parseToken reads id.secret, or id.secret@sha256:HEX.
func parseToken(s string) (bootstrapToken, error) {
	text, authority, pinned := strings.Cut(s, "@")
	if !bootstraputil.IsValidBootstrapToken(text) {
		return bootstrapToken{}, fmt.Errorf("the token is malformed: a token has 6 characters, a dot and 16 characters (a-z, 0-9), this one has %d in all; check it, or %s", len(text), newToken)
	}
	if sum, isSum := strings.CutPrefix(authority, "sha256:"); pinned && (!isSum || len(sum) != 2*sha256.Size || strings.Trim(sum, "0123456789abcdef") != "") {
		return bootstrapToken{}, fmt.Errorf("the token is malformed: the part after @ is not the hash of a CA (sha256: and 64 hex digits); copy all of it, or %s", newToken)
	}
	id, secret, _ := strings.Cut(text, ".")
	return bootstrapToken{id: id, secret: secret, authority: authority}, nil
}

// pinned returns the certificate in a CA (PEM) that the token names, or an error if it
// is not there. A token that names none accepts the whole CA. Other certificates that
// a server presents before it is known may be made up: anyone who knows the token can
// do that. The node learns them once it knows the server.
func (t bootstrapToken) pinned(ca []byte, server string) ([]byte, error) {
	if t.authority == "" {
		return ca, nil
	}
	certs, err := cert.ParseCertsPEM(ca)
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		if sum := sha256.Sum256(c.RawSubjectPublicKeyInfo); t.authority == "sha256:"+hex.EncodeToString(sum[:]) {
			return cert.EncodeCertificates(c)
		}
	}
	return nil, fmt.Errorf("the CA of the cluster at %s is sha256:%x, but the token %s.*** names %s: somebody else answers at that address, the token belongs to another cluster, or it is older than a rotation of the CA; check the address (--server), or %s",
		server, sha256.Sum256(certs[0].RawSubjectPublicKeyInfo), t.id, t.authority, newToken)
}

// discovery finds out which CA the cluster has, with nothing but a token, as kubeadm
// does: it believes an unknown server if the answer is signed with the token.
type discovery struct {
	server string // https://host:port
	token  bootstrapToken
	log    *slog.Logger

	unreachable time.Duration // how long a server that does not answer is tried
	unsigned    time.Duration // how long a signature may take to appear for a new token
	interval    time.Duration // pause between attempts
}

func newDiscovery(server string, token bootstrapToken, log *slog.Logger) discovery {
	return discovery{
		server: server, token: token, log: log,
		unreachable: 2 * time.Minute, unsigned: 10 * time.Second, interval: 250 * time.Millisecond,
	}
}

// errRefused marks an error that the server answered with, as opposed to no answer.
type errRefused struct{ error }

func (e errRefused) Unwrap() error { return e.error }

// run returns the cluster's CA certificates as PEM.
func (d discovery) run(ctx context.Context) ([]byte, error) {
	var ca []byte
	err := d.retry(ctx, func(ctx context.Context) (err error) {
		ca, err = d.signedCA(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ca, d.retry(ctx, func(ctx context.Context) error { return d.verify(ctx, ca) })
}

// any asks all servers (host:port) at once, and believes the first that proves itself.
// If one of them refuses the token, that counts for all. It waits for the others only
// if one does not answer.
func (d discovery) any(ctx context.Context, servers []string) ([]byte, error) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		ca  []byte
		err error
	}
	answers := make(chan answer, len(servers))
	for _, server := range servers {
		one := d
		one.server = "https://" + server
		asking.Go(func() {
			ca, err := one.run(ctx)
			answers <- answer{ca, err}
		})
	}
	var errs []error
	for range servers {
		a := <-answers
		if a.err == nil || errors.As(a.err, &errRefused{}) || errors.As(a.err, &permanent{}) {
			return a.ca, a.err
		}
		errs = append(errs, a.err)
	}
	return nil, errors.Join(errs...)
}

// permanent marks errors that a retry cannot fix.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// retry calls try until it succeeds, fails for good, or has failed for too long. It
// logs failures once in a while.
func (d discovery) retry(ctx context.Context, try func(context.Context) error) error {
	var last error
	var logged time.Time
	started := time.Now()
	err := wait.PollUntilContextCancel(ctx, d.interval, true, func(ctx context.Context) (bool, error) {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if last = try(attempt); last == nil {
			return true, nil
		}
		limit := d.unreachable
		if errors.As(last, &errRefused{}) {
			limit = d.unsigned
		}
		if errors.As(last, &permanent{}) || time.Since(started) >= limit {
			return false, last
		}
		if time.Since(logged) >= 10*time.Second {
			logged = time.Now()
			d.log.Info("cannot join yet, trying again", "server", d.server, "for", limit, "err", last)
		}
		return false, nil
	})
	if err != nil && last != nil {
		return last // also when ctx ended: the reason says more than "canceled"
	}
	return err
}

// signedCA fetches cluster-info without trusting the server, and returns the CA in it
// if it is signed with our token. The token itself is not sent.
func (d discovery) signedCA(ctx context.Context) ([]byte, error) {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: d.server, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		return nil, permanent{fmt.Errorf("make a client for %s: %w", d.server, err)}
	}
	info, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, bootstrapapi.ConfigMapClusterInfo, metav1.GetOptions{})
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return nil, errRefused{fmt.Errorf("%s does not publish information for new nodes: %w; is it an everynode server, and is it the right address?", d.server, err)}
	}
	if err != nil {
		return nil, fmt.Errorf("the API server %s cannot be reached: %w; check that it runs, the address (--server) and firewalls on the way", d.server, err)
	}
	kubeconfig, signature := info.Data[bootstrapapi.KubeConfigKey], info.Data[bootstrapapi.JWSSignatureKeyPrefix+d.token.id]
	if kubeconfig == "" || signature == "" {
		return nil, errRefused{fmt.Errorf("the cluster at %s does not know the token %s.***: it has expired, was deleted, or belongs to another cluster; %s", d.server, d.token.id, newToken)}
	}
	if !jws.DetachedTokenIsValid(signature, kubeconfig, d.token.id, d.token.secret) {
		return nil, permanent{fmt.Errorf("the secret part of the token %s.*** differs from the one that the cluster at %s has: "+
			"the token was mistyped, or somebody else answers at that address; check both, or %s", d.token.id, d.server, newToken)}
	}
	ca, err := caOf(kubeconfig)
	if err != nil {
		return nil, permanent{fmt.Errorf("read the cluster's CA from the answer of %s: %w", d.server, err)}
	}
	if ca, err = d.token.pinned(ca, d.server); err != nil {
		return nil, permanent{err}
	}
	return ca, nil
}

// caOf returns the CA certificates (PEM) in the text of a kubeconfig.
func caOf(kubeconfig string) ([]byte, error) {
	config, err := clientcmd.Load([]byte(kubeconfig))
	if err != nil {
		return nil, err
	}
	for _, cluster := range config.Clusters {
		if _, err := cert.ParseCertsPEM(cluster.CertificateAuthorityData); err != nil {
			return nil, err
		}
		return cluster.CertificateAuthorityData, nil
	}
	return nil, errors.New("it names no cluster")
}

// verify checks that the CA has signed the server's certificate, and that the server
// accepts the token.
func (d discovery) verify(ctx context.Context, ca []byte) error {
	err := whoAmI(ctx, &rest.Config{
		Host:            d.server,
		BearerToken:     d.token.id + "." + d.token.secret,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca},
	})
	switch {
	case err == nil:
		return nil
	case isCertificateError(err):
		return permanent{fmt.Errorf("the certificate of %s is not signed by the cluster's CA: %w; "+
			"use an address that the certificate names (everynode server --advertise-address), and check that nobody intercepts the connection", d.server, err)}
	case apierrors.IsUnauthorized(err):
		return permanent{fmt.Errorf("the cluster at %s no longer accepts the token %s.***: it has expired or was deleted; %s", d.server, d.token.id, newToken)}
	default:
		return fmt.Errorf("check the token %s.*** with %s: %w", d.token.id, d.server, err)
	}
}

// whoAmI asks the API server for our own name, which everybody who is authenticated
// may do. Its error distinguishes "not let in" from "not reached".
func whoAmI(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	_, err = client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	return err
}

func isCertificateError(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError))
}

// bootstrapKubeconfig renders the credentials with which the kubelet requests its
// certificate.
func bootstrapKubeconfig(server string, ca []byte, token bootstrapToken) ([]byte, error) {
	const name = "everynode"
	out, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: token.id + "." + token.secret}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		return nil, fmt.Errorf("render the bootstrap credentials: %w", err)
	}
	return out, nil
}

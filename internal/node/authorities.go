package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"

	"everynode/internal/node/upstream"
)

const (
	// authoritiesMap, in kube-public, lists the CAs that the cluster trusts. The one that signs
	// comes first.
	authoritiesMap = "everynode-authorities"
	// authoritiesAnnotation of a Node lists the CAs that the node trusts. The one that issued its
	// certificate comes first.
	authoritiesAnnotation = "everynode.io/authorities"
	// tellEvery is how often a node checks that annotation while the cluster has several CAs;
	// steadyEvery, while it has one.
	tellEvery   = time.Minute
	steadyEvery = 10 * time.Minute
	// issueTime is how long the cluster may take to sign a certificate.
	issueTime = 30 * time.Second
)

// reconnectEvery is how often clients of this process check whether their certificate has
// changed, and reconnect if so.
const reconnectEvery = 10 * time.Second

// hastenReconnect sets that interval. The default of Kubernetes is five minutes, and has no flag.
func hastenReconnect() { transport.CertCallbackRefreshDuration = reconnectEvery }

// authorityFollower makes a node follow the CAs of its cluster.
type authorityFollower struct {
	cfg Config
	// changed is called with the CAs (PEM) after they, or the node's certificate, have changed:
	// what uses the former ones must restart.
	changed func(ca []byte) error
}

// run watches the cluster's CAs with the node's own credentials, until ctx ends or they, or the
// node's certificate, have changed.
func (f authorityFollower) run(ctx context.Context) error {
	client, err := upstream.Client(f.cfg.files().kubeconfig())
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespacePublic),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, authoritiesMap).String()
		}))
	maps := factory.Core().V1().ConfigMaps()
	changed, err := upstream.OnChange(maps.Informer())
	if err != nil {
		return fmt.Errorf("watch the cluster's CAs: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	factory.Start(ctx.Done())
	defer func() {
		cancel() // or the informers would not end
		factory.Shutdown()
	}()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var looked time.Time
	pace := tellEvery
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			if time.Since(looked) < pace {
				continue
			}
		}
		said, err := maps.Lister().ConfigMaps(metav1.NamespacePublic).Get(authoritiesMap)
		if err != nil {
			continue // a server of an older release has no such map
		}
		looked, pace = time.Now(), paceFor(said)
		again, err := f.follow(ctx, client, said)
		if again || err != nil {
			return err
		}
	}
}

// paceFor is how long to wait before the next check when the cluster has said this.
func paceFor(said *corev1.ConfigMap) time.Duration {
	if named, err := cert.ParseCertsPEM([]byte(said.Data["ca.crt"])); err == nil && len(named) == 1 {
		return steadyEvery - tellEvery/2 // half a tick early, so that the tick at steadyEvery counts
	}
	return tellEvery / 2
}

// follow applies what is new in the cluster's CAs. again is true if the CAs that the node trusts,
// or its certificate, have changed: the caller then has to make a new client.
func (f authorityFollower) follow(ctx context.Context, client kubernetes.Interface, said *corev1.ConfigMap) (again bool, err error) {
	named, err := cert.ParseCertsPEM([]byte(said.Data["ca.crt"]))
	if err != nil {
		return false, fmt.Errorf("read the CAs that the cluster names: %w", err)
	}
	before, err := f.cfg.files().pins()
	if err != nil {
		return false, err
	}
	after, err := before.follow(named)
	if err != nil {
		return false, err
	}
	if !after.equal(before) {
		if err := f.cfg.files().pin(after); err != nil {
			return false, err
		}
		again = true
	}
	renewed, err := f.renew(ctx, client, after.trusted[0])
	if again = again || renewed; again {
		f.cfg.Log.Info("the cluster's CAs have changed", "trusted", authorityIDs(after.trusted), "dropped", after.dropped)
		ca, encodeErr := cert.EncodeCertificates(after.trusted...)
		if encodeErr == nil {
			encodeErr = f.changed(ca)
		}
		err = errors.Join(err, encodeErr)
	}
	if err != nil {
		return again, err
	}
	return again, f.tell(ctx, client, after.trusted)
}

// renew gets a certificate from the CA that signs, unless the node has one. The kubelet then
// requests its serving certificate itself.
func (f authorityFollower) renew(ctx context.Context, client kubernetes.Interface, signer *x509.Certificate) (renewed bool, err error) {
	current, err := f.currentCertificate()
	if err != nil {
		return false, err
	}
	if current.CheckSignatureFrom(signer) == nil {
		return false, nil
	}
	certPEM, keyPEM, err := f.request(ctx, client)
	if err != nil {
		return false, fmt.Errorf("ask for a certificate of the CA %s: %w", authorityID(signer), err)
	}
	issued, err := cert.ParseCertsPEM(certPEM)
	if err != nil {
		return false, fmt.Errorf("read the certificate that the cluster has signed: %w", err)
	}
	if err := issued[0].CheckSignatureFrom(signer); err != nil {
		return false, fmt.Errorf("the cluster has signed with a CA other than %s, which it names: %w", authorityID(signer), err)
	}
	// The serving certificate goes first: the node's new certificate shows that everything was
	// done.
	dir := f.cfg.files().path("pki")
	if err := removeServing(dir); err != nil {
		return false, err
	}
	store, err := certificate.NewFileStore("kubelet-client", dir, dir, "", "")
	if err == nil {
		_, err = store.Update(certPEM, keyPEM)
	}
	if err != nil {
		return false, fmt.Errorf("keep the node's certificate: %w", err)
	}
	return true, nil
}

// removeServing removes the kubelet's serving certificates.
func removeServing(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "kubelet-server-*.pem"))
	if err != nil {
		return fmt.Errorf("look for the node's serving certificate: %w", err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the node's serving certificate: %w", err)
		}
	}
	return nil
}

func (f authorityFollower) currentCertificate() (*x509.Certificate, error) {
	path := f.cfg.files().path("pki", clientCertificate)
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	return leaf, nil
}

// request has the cluster sign a new key of this node, as a kubelet does that renews its
// certificate.
func (f authorityFollower) request(ctx context.Context, client kubernetes.Interface) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key); err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	subject := &pkix.Name{CommonName: "system:node:" + f.cfg.Name, Organization: []string{"system:nodes"}}
	request, err := cert.MakeCSR(key, subject, nil, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("make a request: %w", err)
	}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageClientAuth}
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, request, "", certv1.KubeAPIServerClientKubeletSignerName, nil, usages, key)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, issueTime)
	defer cancel()
	certPEM, err = csr.WaitForCertificate(ctx, client, name, uid)
	return certPEM, keyPEM, err
}

// tell writes to the Node which CAs this node trusts, and which of them issued its certificate.
// It writes nothing if the Node says so already, because each write is in the audit log.
func (f authorityFollower) tell(ctx context.Context, client kubernetes.Interface, trusted []*x509.Certificate) error {
	current, err := f.currentCertificate()
	if err != nil {
		return err
	}
	trusted = slices.Clone(trusted)
	slices.SortStableFunc(trusted, func(a, b *x509.Certificate) int {
		return boolOrder(current.CheckSignatureFrom(a) == nil, current.CheckSignatureFrom(b) == nil)
	})
	text := strings.Join(authorityIDs(trusted), " ")
	node, err := client.CoreV1().Nodes().Get(ctx, f.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read which CAs this node has reported to trust: %w", err)
	}
	if node.Annotations[authoritiesAnnotation] == text {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{authoritiesAnnotation: text},
	}})
	if err != nil {
		return fmt.Errorf("encode which CAs this node trusts: %w", err)
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, f.cfg.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("tell the cluster which CAs this node trusts: %w", err)
	}
	return nil
}

// boolOrder sorts true first.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

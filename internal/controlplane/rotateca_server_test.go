package controlplane

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/admission"
	"everynode/internal/controlplane/pki"
)

// checkRotateCA rotates the CA of a running control plane. Whoever had access before keeps
// it until the end, and whoever has the new kubeconfig has it from then on.
func checkRotateCA(t *testing.T, r *running) {
	was := r.adminConfig
	old := readCert(t, r.settings(t).path("pki"), pki.ClusterCA)
	stolen := rest.CopyConfig(was)
	token, err := admission.CreateToken(t.Context(), r.admin, admission.TokenSpec{TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}

	r.rotateCA(t, CAPrepare)
	r.wantAuthorities(t, token, 2)
	r.wantServing(t, old)
	r.wantAccess(t, "prepare, the old kubeconfig", was, true)

	r.rotateCA(t, CASwitch)
	fresh := readCert(t, r.settings(t).path("pki"), pki.ClusterCA)
	if fresh.Equal(old) {
		t.Fatal("the old CA is still signing")
	}
	r.wantAuthorities(t, token, 2)
	r.wantServing(t, fresh)
	r.wantAccess(t, "switch, the old kubeconfig", was, true)
	r.reload(t)
	r.wantAccess(t, "switch, the new kubeconfig", r.adminConfig, true)
	r.wantIssuer(t, token, fresh)

	r.rotateCA(t, CAFinish)
	r.wantAuthorities(t, token, 1)
	r.wantServing(t, fresh)
	r.wantAccess(t, "finish, the old certificate", stolen, false)
	r.reload(t)
	r.wantAccess(t, "finish, the new kubeconfig", r.adminConfig, true)
	checkControllers(t, r.admin)
	if err := admission.DeleteToken(t.Context(), r.admin, token.ID); err != nil {
		t.Error(err)
	}
}

func (r *running) settings(t *testing.T) *settings {
	t.Helper()
	s, err := r.cfg.resolve()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *running) rotateCA(t *testing.T, step string) {
	t.Helper()
	cfg := r.cfg
	cfg.Progress = func(step string, took time.Duration) { t.Logf("%-40s %6.1fs", step, took.Seconds()) }
	rotation, done, err := openCARotation(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
	rotation.rereadTime, rotation.leaveLate = 0, true // there are no kubelets
	if err := errors.Join(rotation.check(), rotation.do(t.Context(), step), done()); err != nil {
		t.Fatalf("%s: %v", step, err)
	}
}

// reload reads the administrator's kubeconfig again.
func (r *running) reload(t *testing.T) {
	t.Helper()
	admin, err := clientcmd.BuildConfigFromFlags("", r.settings(t).path("admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	r.admin, r.adminConfig = client(t, admin), admin
}

func (r *running) wantAccess(t *testing.T, what string, cfg *rest.Config, want bool) {
	t.Helper()
	again := rest.CopyConfig(cfg)
	again.UserAgent = what // otherwise it would use the old connections
	_, err := client(t, again).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if want && err != nil || !want && !apierrors.IsUnauthorized(err) {
		t.Errorf("after %s: %v", what, err)
	}
}

// wantServing fails the test unless the API server presents a certificate of an authority.
func (r *running) wantServing(t *testing.T, ca *x509.Certificate) {
	t.Helper()
	served := whoAnswers(t.Context(), netip.MustParseAddrPort(r.cfg.Listen).String())
	if served == nil || served.CheckSignatureFrom(ca) != nil {
		t.Errorf("the API server shows a certificate of another CA than %s", pki.ID(ca))
	}
}

// wantAuthorities waits until everybody is told of want CAs.
func (r *running) wantAuthorities(t *testing.T, token admission.Token, want int) {
	t.Helper()
	told := map[string]func(context.Context) ([]byte, error){
		"pods": func(ctx context.Context) ([]byte, error) {
			return configMapCA(ctx, r.admin, "default", "kube-root-ca.crt", "ca.crt")
		},
		"nodes": func(ctx context.Context) ([]byte, error) {
			return configMapCA(ctx, r.admin, metav1.NamespacePublic, authoritiesMap, "ca.crt")
		},
		"servers that extend the API": func(ctx context.Context) ([]byte, error) {
			return configMapCA(ctx, r.admin, metav1.NamespaceSystem, "extension-apiserver-authentication", "client-ca-file")
		},
		"machines that join": func(context.Context) ([]byte, error) { return trustedConfig(t, r.cfg.Listen, token).CAData, nil },
	}
	for whom, read := range told {
		eventually(t, whom+" are told of the CAs", func(ctx context.Context) (bool, error) {
			data, err := read(ctx)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			certs, parseErr := certutil.ParseCertsPEM(data)
			return parseErr == nil && len(certs) == want, err
		})
	}
	if got := trustedForKubelets(t, r.settings(t).path("pki")); len(got) != want {
		t.Errorf("the API server trusts %d authorities for kubelets, want %d", len(got), want)
	}
}

func configMapCA(ctx context.Context, admin kubernetes.Interface, namespace, name, key string) ([]byte, error) {
	object, err := admin.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return []byte(object.Data[key]), nil
}

// wantIssuer lets a machine join, and fails the test unless ca has signed its certificate.
func (r *running) wantIssuer(t *testing.T, token admission.Token, ca *x509.Certificate) {
	t.Helper()
	bootstrap := trustedConfig(t, r.cfg.Listen, token)
	bootstrap.BearerToken = token.String()
	data, _ := joinCertificate(t, client(t, bootstrap), "node-late")
	certs, err := certutil.ParseCertsPEM(data)
	if err != nil || !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return c.CheckSignatureFrom(ca) == nil }) {
		t.Errorf("a machine that joins gets a certificate of another CA than the one that signs: %v", err)
	}
}

// checkFrontProxy replaces the CA of the front proxy of a running control plane, as in its last year. Servers that extend
// the API are told, and the API server shows them a certificate of it.
func checkFrontProxy(t *testing.T, r *running) {
	s := r.settings(t)
	was := readCert(t, s.path("pki"), pki.FrontProxyCA)
	if err := errors.Join(pki.RenewFrontProxy(s.path("pki"), time.Now().AddDate(9, 1, 0)), s.ids().ensure(time.Now())); err != nil {
		t.Fatal(err)
	}
	is := readCert(t, s.path("pki"), pki.FrontProxyCA)
	if is.Equal(was) || readCert(t, s.path("pki"), frontProxyCert).CheckSignatureFrom(is) != nil {
		t.Fatal("it is the same, or has not signed the certificate of the API server")
	}
	eventually(t, "servers that extend the API are told", func(ctx context.Context) (bool, error) {
		data, err := configMapCA(ctx, r.admin, metav1.NamespaceSystem, "extension-apiserver-authentication", "requestheader-client-ca-file")
		certs, parseErr := certutil.ParseCertsPEM(data)
		return parseErr == nil && slices.ContainsFunc(certs, is.Equal), err
	})
}

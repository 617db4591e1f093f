package controlplane

import (
	"crypto/x509"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/pki"
)

// Programs that use OpenSSL, and trust only the old CA, trust servers of the new one by what
// these send along. Go's own check is in the test with a real API server.
func TestCrossSignedByOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl on PATH: make test-packages installs it")
	}
	dir, now := t.TempDir(), time.Now()
	if err := pki.Ensure(dir, []pki.Certificate{{Name: "server", CA: pki.ClusterCA, CN: "srv", Usage: x509.ExtKeyUsageServerAuth, SANs: loopbackNames()}}, now); err != nil {
		t.Fatal(err)
	}
	signer, err := pki.Load(pki.Paths(dir, pki.ClusterCA))
	if err != nil {
		t.Fatal(err)
	}
	old, err := pki.NewAuthority(pki.ClusterCA, pki.ClusterCACN, now)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := crossSign(signer, old, now)
	if err == nil {
		err = errors.Join(pki.WriteCertificates(filepath.Join(dir, "old.crt"), old.Cert), pki.WriteCertificates(filepath.Join(dir, "cross.crt"), cross))
	}
	if err != nil {
		t.Fatal(err)
	}
	verify := func(more ...string) error {
		args := append([]string{"verify", "-CAfile", filepath.Join(dir, "old.crt")}, more...)
		out, err := exec.Command(openssl, append(args, filepath.Join(dir, "server.crt"))...).CombinedOutput()
		t.Logf("%v: %v: %s", more, err, out)
		return err
	}
	if verify() == nil {
		t.Error("a certificate of the new CA is accepted by itself")
	}
	if err := verify("-untrusted", filepath.Join(dir, "cross.crt")); err != nil {
		t.Errorf("a certificate of the new CA with what the old one has signed: %v", err)
	}
}

func TestEditConfigMapWithoutData(t *testing.T) {
	client := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: authoritiesMap, Namespace: metav1.NamespacePublic}})
	if err := editConfigMap(t.Context(), client, metav1.NamespacePublic, authoritiesMap, replaceText("ca.crt", []byte("pem"))); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(t.Context(), authoritiesMap, metav1.GetOptions{})
	if err != nil || got.Data["ca.crt"] != "pem" {
		t.Errorf("got %v, %v", got.Data, err)
	}
}

// What a node must have differs between the steps.
func TestLateness(t *testing.T) {
	for _, c := range []struct {
		name, says string
		should     func([]string) bool
		late       bool
	}{
		{"switch: it trusts both", "old new", hasAll([]string{"old", "new"}), false},
		{"switch: it trusts one", "old", hasAll([]string{"old", "new"}), true},
		{"finish: a certificate of the new one, and it trusts no other", "new", isOf("new"), false},
		{"finish: a certificate of the old one", "old new", isOf("new"), true},
		{"afterwards: it still trusts both", "new old", isOf("new"), false},
		{"finish: it says nothing", "", isOf("new"), true},
		{"undo: it says nothing, so it never followed", "", isNotOf("new"), false},
		{"undo: a certificate of the new one", "new old", isNotOf("new"), true},
	} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{authoritiesAnnotation: c.says}}}
		if late := lateness(node, c.should, nil) != ""; late != c.late {
			t.Errorf("%s: late %v", c.name, late)
		}
	}
}

func readCert(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	pair, err := pki.Load(pki.Paths(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Cert
}

func trustedForKubelets(t *testing.T, dir string) []*x509.Certificate {
	t.Helper()
	certs, err := certutil.CertsFromFile(filepath.Join(dir, pki.KubeletAuthorities))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

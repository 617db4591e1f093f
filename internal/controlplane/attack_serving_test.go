package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/admission"
)

// askToServe asks for a node's serving certificate, for its name and an address.
func askToServe(t *testing.T, node kubernetes.Interface, name, address string) (csr string) {
	t.Helper()
	subject := pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}
	usages := []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageServerAuth}
	csr, _ = requestCertificate(t, node, certv1.KubeletServingSignerName, subject, usages, []string{name}, []net.IP{net.ParseIP(address)})
	return csr
}

// checkServing reports a node's address and asks for its serving certificate. The machine that had the node's name
// before has asked as well, early, and must not get it.
func checkServing(t *testing.T, admin, node kubernetes.Interface, name, address, early string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"status":{"addresses":[{"type":"InternalIP","address":%q}]}}`, address)
	if _, err := node.CoreV1().Nodes().PatchStatus(t.Context(), name, patch); err != nil {
		t.Fatal(err)
	}
	certs, err := certutil.ParseCertsPEM(awaitCertificate(t, admin, askToServe(t, node, name, address)))
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(certs[0].NotAfter); left > admission.ServingFor || left < admission.ServingFor-time.Hour {
		t.Errorf("a serving certificate is valid for %v", left)
	}
	eventually(t, "what was asked for before is denied", func(ctx context.Context) (bool, error) {
		got, err := admin.CertificatesV1().CertificateSigningRequests().Get(ctx, early, metav1.GetOptions{})
		if err != nil || len(got.Status.Conditions) == 0 {
			return false, err
		}
		c := got.Status.Conditions[0]
		if len(got.Status.Certificate) > 0 || c.Type == certv1.CertificateApproved {
			return false, fmt.Errorf("the machine that had the name has a certificate: %s", c.Message)
		}
		return c.Type == certv1.CertificateDenied && strings.Contains(c.Message, "this one had it before"), nil
	})
}

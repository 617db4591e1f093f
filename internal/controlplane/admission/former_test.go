package admission

import (
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
)

// TestCertificatesInAdvance: a node that reports one address after the other gets certificates for few of them, also
// if no list was written in between. It keeps none of them from others, and these are told.
func TestCertificatesInAdvance(t *testing.T) {
	d, approved := newDesk(t), 0
	name := func(i int) string { return fmt.Sprint("csr-", i) }
	for i := range 10 {
		address := fmt.Sprintf("10.0.0.%d", i+1)
		if err := d.known.Update(claimant("node-1", time.Hour, address)); err != nil {
			t.Fatal(err)
		}
		d.asks(servingCSR(t, func(_ *certv1.CertificateSigningRequest, r *x509.CertificateRequest) {
			r.IPAddresses = []net.IP{net.ParseIP(address)}
		}), name(i), 0)
		if d.decides(name(i)); d.condition(name(i)) == "Approved" {
			approved++
		}
	}
	if approved != formerOfNode+1 {
		t.Errorf("it has certificates for %d addresses", approved)
	}
	held, err := d.csrs.Get(name(9))
	if err != nil || len(held.Status.Conditions) == 0 || !strings.Contains(held.Status.Conditions[0].Message, "for addresses that it no longer has (10.0.0.1, 10.0.0.2") {
		t.Errorf("it is told %+v, %v", held, err)
	}
	if err := d.known.Add(claimant("node-2", time.Minute, "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	d.asks(servingCSR(t, func(csr *certv1.CertificateSigningRequest, r *x509.CertificateRequest) {
		csr.Spec.Username, r.Subject.CommonName = "system:node:node-2", "system:node:node-2"
		r.DNSNames, r.IPAddresses = []string{"node-2"}, []net.IP{net.ParseIP("10.0.0.1")}
	}), "honest", 0)
	if d.decides("honest"); d.condition("honest") != "Approved" {
		t.Errorf("a later node with one of the addresses: %q", d.condition("honest"))
	}
	told := ""
	for events := d.events.(*record.FakeRecorder).Events; len(events) > 0; {
		told += <-events + "\n"
	}
	if want := "AddressOfAnother Node node-1 had the address 10.0.0.1 before, and may have a certificate for it until "; !strings.Contains(told, want) {
		t.Errorf("the events are\n%s", told)
	}
	// An administrator forgets what node-1 had.
	maps := d.api.CoreV1().ConfigMaps("kube-system")
	list, err := maps.Get(t.Context(), NodeAddresses, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for key := range list.Data {
		if strings.HasPrefix(key, formerMark) {
			delete(list.Data, key)
		}
	}
	if _, err := maps.Update(t.Context(), list, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.keepClaims(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.decides(name(9)); d.condition(name(9)) != "Approved" {
		t.Errorf("then it is %q", d.condition(name(9)))
	}
}

package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"

	"everynode/internal/controlplane/pki"
)

const advertisedTime = 10 * time.Second

// checkAdvertised warns when another server answers at the address that this
// one advertises to nodes. Two servers with one address look like one to the
// nodes, so they cannot move to the other when one stops. A load balancer in
// front of all servers looks the same from here, so it is a warning and not an error.
func checkAdvertised(ctx context.Context, s *settings) error {
	path, _ := pki.Paths(s.path("pki"), servingCert)
	address := net.JoinHostPort(s.advertise.String(), s.portText())
	ours, err := certutil.CertsFromFile(path)
	if err != nil {
		return err
	}
	if theirs := whoAnswers(ctx, address); theirs != nil && !bytes.Equal(theirs.Raw, ours[0].Raw) {
		klog.Warningf("Another server answers at the advertise address %s of this one (its certificate names %v). "+
			"Unless that is a load balancer, give each server its own --advertise-address", address, theirs.IPAddresses)
	}
	<-ctx.Done()
	return nil
}

// whoAnswers returns the certificate of the server at address; nil if none
// answers. It sends nothing that the server could misuse, so it need not trust it.
func whoAnswers(ctx context.Context, address string) *x509.Certificate {
	ctx, cancel := context.WithTimeout(ctx, advertisedTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil // this machine may not reach an address that nodes reach
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

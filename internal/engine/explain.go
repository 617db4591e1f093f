package engine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// explain adds the likely cause to the error of a request, if the error itself does not say it.
func explain(err error) error {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return fmt.Errorf("the API server's certificate is not valid yet, by the clock of this machine: one of the two clocks is wrong: %w", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the API server's certificate has expired, by the clock of this machine: renew it, or set the clock: %w", err)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("the API server's certificate is not from the CA of the kubeconfig: the kubeconfig is out of date or belongs to another cluster: %w", err)
	case errors.As(err, new(x509.HostnameError)):
		return fmt.Errorf("the API server's certificate is for other names than the one in the kubeconfig: %w", err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server does not accept our credentials: the token or client certificate has expired, or belongs to another cluster: %w", err)
	}
	return err
}

// hopeless reports whether retrying cannot help after this error of the first request. A
// certificate that is not valid yet will become valid by itself.
func hopeless(err error) bool {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		return invalid.Reason != x509.Expired || !time.Now().Before(invalid.Cert.NotBefore)
	}
	return errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) || apierrors.IsUnauthorized(err)
}

// checkCredentials finds a client certificate that the API server will refuse
// for its dates, which it does without saying why.
func checkCredentials(c *rest.Config, now time.Time) error {
	pair, err := clientCertificate(c)
	if err != nil {
		return fmt.Errorf("engine: the client certificate: %w", err)
	}
	if pair == nil {
		return nil
	}
	switch cert := pair.Leaf; {
	case now.After(cert.NotAfter):
		return fmt.Errorf("engine: the client certificate of %q expired on %s: %s (or set the clock of this machine, if that is wrong)",
			cert.Subject.CommonName, cert.NotAfter.Format(time.RFC3339), whereRenewed(c))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("engine: the client certificate of %q is not valid before %s, and the clock of this machine says %s: set the clock",
			cert.Subject.CommonName, cert.NotBefore.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return nil
}

// clientCertificate returns the certificate that the client presents; nil if it presents none.
func clientCertificate(c *rest.Config) (*tls.Certificate, error) {
	t := c.TLSClientConfig
	var pair tls.Certificate
	var err error
	switch {
	case len(t.CertData) > 0 && len(t.KeyData) > 0:
		pair, err = tls.X509KeyPair(t.CertData, t.KeyData)
	case t.CertFile != "" && t.KeyFile != "":
		pair, err = tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

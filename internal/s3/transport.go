package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"everynode/internal/datadir"
)

const (
	dialTime = 10 * time.Second
	// silence is how long a connection may stand still. A slow connection on which
	// something moves is left alone.
	silence = time.Minute
	// tries bounds how often a request is sent that the storage cannot answer.
	tries = 4
)

// transport connects to the endpoint, and gives up connections that stand still.
func (o Options) transport(silence time.Duration) (*http.Transport, error) {
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTime}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return lively{conn, silence}, nil
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: dialTime,
		IdleConnTimeout:     silence,
		DisableCompression:  true, // a file comes as it was sent
	}, nil
}

// roots returns the CAs that may have signed the endpoint's certificate; nil: the system's.
func (o Options) roots() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	if err := datadir.CheckTrusted(o.CAFile); err != nil {
		return nil, fmt.Errorf("--s3-ca-file: %w", err)
	}
	text, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("--s3-ca-file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--s3-ca-file: %s has no certificate in PEM format", o.CAFile)
	}
	return roots, nil
}

// lively is a connection that fails when nothing has moved on it for a while, in
// either direction.
type lively struct {
	net.Conn
	silence time.Duration
}

func (c lively) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c lively) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

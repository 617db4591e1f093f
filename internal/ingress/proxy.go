package ingress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

const (
	dialTimeout    = 5 * time.Second
	idlePerService = 64
	idleTimeout    = 90 * time.Second
	headerTimeout  = 10 * time.Second
	clientIdle     = 2 * time.Minute
	selfSignedFor  = 10 * 365 * 24 * time.Hour
)

// Proxy answers requests by a table. Until it has one, it answers all of them with 404.
type Proxy struct {
	table     atomic.Pointer[Table]
	transport http.RoundTripper
	unknown   *tls.Certificate // for names that no Ingress has a certificate for
}

// NewProxy returns a proxy without a table.
func NewProxy() (*Proxy, error) {
	unknown, err := selfSigned()
	if err != nil {
		return nil, err
	}
	p := &Proxy{unknown: unknown, transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConnsPerHost: idlePerService,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true, // what a pod sends arrives as it is
	}}
	p.table.Store(&Table{})
	return p, nil
}

// Set makes requests go where the table says from now on. Requests in progress continue.
func (p *Proxy) Set(t *Table) { p.table.Store(t) }

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, ok := p.table.Load().Target(r.Host, r.URL.Path)
	if !ok {
		http.Error(w, "No Ingress has this host and path.", http.StatusNotFound)
		return
	}
	if target.Address == "" {
		http.Error(w, "The Ingress of this host and path names a service that does not exist. Its events say more.", http.StatusServiceUnavailable)
		return
	}
	forward := httputil.ReverseProxy{
		Transport: p.transport,
		Rewrite: func(to *httputil.ProxyRequest) {
			to.SetURL(&url.URL{Scheme: "http", Host: target.Address})
			to.Out.Host = to.In.Host
			to.SetXForwarded() // what the client says about itself is not passed on
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			klog.V(2).InfoS("A request could not be forwarded", "address", target.Address, "err", err)
			http.Error(w, "The service of this host and path does not answer.", http.StatusBadGateway)
		},
	}
	forward.ServeHTTP(w, r)
}

// certificate returns the certificate for a client's hello.
func (p *Proxy) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := p.table.Load().Certificate(hello.ServerName); c != nil {
		return c, nil
	}
	return p.unknown, nil
}

// server returns an HTTP server of the proxy. It cuts off a client that sends its headers slowly; bodies may take
// long.
func (p *Proxy) server() *http.Server {
	return &http.Server{
		Handler: p, ReadHeaderTimeout: headerTimeout, IdleTimeout: clientIdle,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.certificate},
	}
}

// selfSigned returns a certificate that nobody trusts, for names without a certificate.
func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{"ingress.invalid"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor),
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil
}

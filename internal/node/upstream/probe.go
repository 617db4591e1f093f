package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// loopback is the address at which the node's programs reach the API. The
// certificates of all API servers are valid for it.
const loopback = "127.0.0.1"

// probe asks API servers whether they are ready.
type probe struct {
	mu     sync.Mutex
	ca     []byte
	client *http.Client
}

// trust makes the probe accept only servers with certificates from this CA (PEM).
// Before a node has joined it has no CA, and accepts any server. changed is true if
// the CA is a new one.
func (p *probe) trust(ca []byte) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil && bytes.Equal(ca, p.ca) {
		return false, nil
	}
	config := &tls.Config{InsecureSkipVerify: len(ca) == 0, ServerName: loopback}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return false, errors.New("the CA of the cluster that this node has joined holds no certificate: remove the node's data directory and join again")
		}
	}
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
	// One connection to each server is kept, so that asking again costs little.
	p.ca, p.client = ca, &http.Client{Timeout: probeTimeout, Transport: &http.Transport{
		TLSClientConfig: config, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
	}}
	return true, nil
}

// ready returns why a server is not ready, or nil. A server that asks for
// credentials is ready: it tells nothing more to clients without any.
func (p *probe) ready(ctx context.Context, server string) error {
	p.mu.Lock()
	client := p.client
	p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return nil
	}
	return fmt.Errorf("it is not ready (%s)", resp.Status)
}

func (p *probe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client.CloseIdleConnections()
}

package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"k8s.io/klog/v2"
)

const (
	// sharedStoreTime is how long an etcd may take to answer. Servers and
	// members of etcd may be started at the same time, in any order.
	sharedStoreTime = time.Minute
	sharedStoreTry  = 5 * time.Second
)

// sharedStore is a client of an etcd that this process did not start.
type sharedStore struct {
	client *clientv3.Client
	urls   []string
	tls    *tls.Config // nil without TLS
	limit  time.Duration
}

// etcdAccess says how to reach an etcd that this process did not start.
type etcdAccess struct {
	servers                   []string
	caFile, certFile, keyFile string // "" without TLS
}

func (e etcdAccess) open() (*sharedStore, error) { return e.openAt(e.servers) }

// openAt makes a client for the etcd at these URLs.
func (e etcdAccess) openAt(urls []string) (*sharedStore, error) {
	c := &sharedStore{urls: urls, limit: sharedStoreTime}
	if e.caFile != "" || e.certFile != "" {
		info := transport.TLSInfo{CertFile: e.certFile, KeyFile: e.keyFile, TrustedCAFile: e.caFile}
		var err error
		if c.tls, err = info.ClientConfig(); err != nil {
			return nil, fmt.Errorf("read the certificates for etcd: %w; correct --etcd-cafile, --etcd-certfile and --etcd-keyfile", err)
		}
	}
	var err error
	c.client, err = clientv3.New(clientv3.Config{Endpoints: urls, TLS: c.tls, DialTimeout: sharedStoreTry, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("make a client for the etcd at %s: %w; correct --etcd-servers", e.text(), err)
	}
	return c, nil
}

func (e etcdAccess) text() string { return strings.Join(e.servers, ",") }

// close cannot fail in a way that matters: what was asked has been answered.
func (c *sharedStore) close() { _ = c.client.Close() }

// do calls ask, and repeats it for up to c.limit while etcd does not answer.
func (c *sharedStore) do(ctx context.Context, ask func(context.Context) error) error {
	started := time.Now()
	for warned := false; ; warned = true {
		try, cancel := context.WithTimeout(ctx, sharedStoreTry)
		err := ask(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		why := c.explain(ctx, err)
		if time.Since(started) >= c.limit {
			return fmt.Errorf("etcd does not answer: %w; start it, or correct --etcd-servers and the certificates for it", why)
		}
		if !warned {
			klog.Warningf("Waiting for etcd: %v", why)
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// explain finds out why etcd did not answer: etcd's client does not say what was
// wrong with each member.
func (c *sharedStore) explain(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, sharedStoreTry)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}}
	var errs []error
	for _, url := range c.urls {
		req, reqErr := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/version", nil)
		if reqErr != nil {
			errs = append(errs, reqErr)
			continue
		}
		resp, askErr := client.Do(req)
		if askErr != nil {
			errs = append(errs, askErr)
			continue
		}
		resp.Body.Close()
	}
	if len(errs) == 0 {
		return fmt.Errorf("%w, although each of %s can be reached: are most of its members running?", err, strings.Join(c.urls, ", "))
	}
	return errors.Join(errs...)
}

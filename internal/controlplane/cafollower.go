package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"everynode/internal/controlplane/pki"
	"everynode/internal/controlplane/private"
)

// authorityFollower makes a server trust the CAs that the cluster trusts.
type authorityFollower struct {
	*settings
	record authorityRecord  // what the files were written from
	known  bool             // record was read
	since  time.Time        // when record was read
	former []*pki.Authority // what record dropped
	// trusts are the authorities that the API server uses and that were published, as the record
	// reports them, the one that signs first; nil: the server has not finished the change yet.
	trusts []string
	// inUse returns why the API server does not use the files yet, and publish makes the
	// authorities known to everybody else.
	inUse   func(ctx context.Context, trusted, former []*pki.Authority) error
	publish func(ctx context.Context) error
}

// follow reads the record once, and does what it can to follow it. A rotation of the CA
// waits for trusts.
func (f *authorityFollower) follow(ctx context.Context, store *sharedStore) error {
	ask, cancel := context.WithTimeout(ctx, sharedStoreTry)
	defer cancel()
	got, err := store.client.Get(ask, authoritiesKey)
	if err != nil {
		return fmt.Errorf("read which CAs the cluster trusts: %w", err)
	}
	r, err := parseAuthorities(got)
	if err != nil {
		return err
	}
	if !f.known || r.revision != f.record.revision {
		if err := f.take(r, time.Now()); err != nil {
			return err
		}
	}
	if f.trusts != nil {
		return nil
	}
	trusted, err := f.ids().trusted()
	if err != nil {
		return err
	}
	if r.revision > 0 || len(f.former) > 0 {
		if err := f.use(ctx, trusted); err != nil {
			return f.patient(err)
		}
	}
	for _, a := range trusted {
		f.trusts = append(f.trusts, r.report(a.ID()))
	}
	f.former = nil
	return nil
}

// use publishes the authorities once the API server uses them. It does not wait: if they
// are not in use everywhere yet, it returns why.
func (f *authorityFollower) use(ctx context.Context, trusted []*pki.Authority) error {
	if f.record.Undo {
		trusted = slices.DeleteFunc(slices.Clone(trusted), func(a *pki.Authority) bool { return a.ID() == f.record.Next })
	}
	if err := f.inUse(ctx, trusted, f.former); err != nil {
		return err
	}
	return f.publish(ctx)
}

// patient drops an error that is normal for a while after a change.
func (f *authorityFollower) patient(err error) error {
	if time.Since(f.since) < loadTime/2 {
		return nil
	}
	return err
}

// take writes the files of a record, and whatever follows from them.
func (f *authorityFollower) take(r authorityRecord, now time.Time) error {
	former, err := f.ids().take(r)
	if errors.Is(err, errUnknownCA) {
		return staleKeysError{fmt.Errorf("%w: move its pki/ away, and %s", err, howToShare(f.path("pki")))}
	}
	if err != nil {
		return err
	}
	f.former = append(f.former, former...) // kept even if the rest fails: the next call would find none
	if r.revision > 0 || len(former) > 0 {
		if err := f.ids().ensure(now); err != nil {
			return err
		}
	}
	f.record, f.known, f.since, f.trusts = r, true, now, nil
	return nil
}

// trusted reads the authorities in the files, the one that signs first.
func (i identities) trusted() ([]*pki.Authority, error) {
	signer, err := pki.Load(pki.Paths(i.data.path("pki"), pki.ClusterCA))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	others, err := pki.Others(i.data.path("pki"), signer)
	return append([]*pki.Authority{signer}, others...), err
}

// take makes the files of authorities say what a record says, or its absence, and returns the authorities
// that it has removed. After a crash in the middle, the next call completes it: no key is
// removed before it is stored elsewhere.
func (i identities) take(r authorityRecord) (former []*pki.Authority, err error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	dir := i.data.path("pki")
	if err := pki.Settle(dir); err != nil {
		return nil, err
	}
	had, err := i.trusted()
	if err != nil {
		return nil, err
	}
	if r.revision == 0 {
		return i.dropUnrecorded(had)
	}
	var all []*pki.Authority
	for _, sealed := range r.Authorities {
		a, err := sealed.open(had)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	if r.underWay() {
		for _, a := range all {
			if err := pki.KeepNamed(dir, a); err != nil {
				return nil, err
			}
		}
	}
	if err := i.writeCross(r); err != nil {
		return nil, err
	}
	if all[0].ID() != had[0].ID() {
		if err := pki.Write(dir, pki.ClusterCA, all[0].Cert, all[0].Key); err != nil {
			return nil, err
		}
	}
	for _, a := range had {
		if !slices.Contains(r.ids(), a.ID()) {
			former = append(former, a)
		}
	}
	if !r.underWay() {
		err = pki.DropNamed(dir)
	}
	return former, err
}

// dropUnrecorded removes the files of a rotation of which etcd has no record. Servers write them after the record, so a
// snapshot from before it was restored. If the new CA signs already, they stay: what the snapshot has may be sealed for
// the old one.
func (i identities) dropUnrecorded(had []*pki.Authority) (former []*pki.Authority, err error) {
	dir := i.data.path("pki")
	if came, err := pki.CameByRotation(dir, had[0]); came || err != nil {
		return nil, err
	}
	return had[1:], errors.Join(pki.DropNamed(dir), i.writeCross(authorityRecord{}))
}

func (i identities) writeCross(r authorityRecord) error {
	path := i.data.path("pki", pki.CrossFile)
	if len(r.Cross) > 0 {
		return private.WriteIfChanged(path, r.Cross)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a certificate of a dropped CA: %w", err)
	}
	return nil
}

// inUse returns why the API server of this process does not use the authorities yet; nil
// if it does. To find out, it sends requests with certificates of each.
func (i identities) inUse(ctx context.Context, trusted, former []*pki.Authority) error {
	at, err := url.Parse(i.at.localURL())
	if err != nil {
		return fmt.Errorf("read this server's own address: %w", err)
	}
	served := whoAnswers(ctx, at.Host)
	if served == nil {
		return errors.New("the API server does not answer")
	}
	if err := served.CheckSignatureFrom(trusted[0].Cert); err != nil {
		return fmt.Errorf("the API server has no certificate of the CA %s yet: %w", trusted[0].ID(), err)
	}
	for _, a := range trusted {
		if status, err := i.askAs(ctx, a, trusted); err != nil || status == http.StatusUnauthorized {
			return errors.Join(fmt.Errorf("the API server does not accept certificates of the CA %s yet", a.ID()), err)
		}
	}
	for _, a := range former {
		if status, err := i.askAs(ctx, a, trusted); err != nil || status != http.StatusUnauthorized {
			return errors.Join(fmt.Errorf("the API server still accepts certificates of the CA %s", a.ID()), err)
		}
	}
	return nil
}

// askAs sends a request to the API server with a certificate that a has signed, as a user
// without rights.
func (i identities) askAs(ctx context.Context, a *pki.Authority, trusted []*pki.Authority) (status int, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, fmt.Errorf("make a key: %w", err)
	}
	leaf, err := pki.Certificate{Name: "rotation", CN: "everynode-rotation", Usage: x509.ExtKeyUsageClientAuth}.Issue(a, key.Public(), time.Now())
	if err != nil {
		return 0, err
	}
	pair := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	roots := x509.NewCertPool()
	for _, t := range trusted {
		roots.AddCert(t.Cert)
	}
	client := &http.Client{Timeout: advertisedTime, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.at.localURL()+"/version", nil)
	if err != nil {
		return 0, fmt.Errorf("ask this server's own API server: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask this server's own API server: %w", err)
	}
	return resp.StatusCode, resp.Body.Close()
}

package controlplane

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"everynode/internal/controlplane/pki"
)

// authoritiesKey is where the servers of a cluster keep, in their etcd, which CAs are
// trusted. A cluster that has never rotated its CA has no such record.
const authoritiesKey = "/registry/everynode/authorities"

// authorityRecord says which CAs are trusted. While there are two, it contains the key of
// each, sealed with a key that is derived from the other's. So a server that has either key
// gets both, and so does one that is restored from a snapshot of that time. While there is
// one CA, it contains no keys.
type authorityRecord struct {
	// Authorities are trusted; the first signs.
	Authorities []sealedAuthority `json:"authorities"`
	// Next is the ID of the new CA of a rotation; empty: no rotation is under way.
	Next string `json:"next,omitempty"`
	// Undo: Next goes away again, so nobody has to prove that it is accepted. It may be unusable.
	Undo bool `json:"undo,omitempty"`
	// Cross (PEM) is the content of pki.CrossFile.
	Cross   []byte    `json:"cross,omitempty"`
	Changed time.Time `json:"changed"`

	revision int64 // of the record in etcd; 0: there is none
}

// sealedAuthority is a CA as it is stored in etcd.
type sealedAuthority struct {
	ID   string `json:"id"`
	Cert []byte `json:"cert"` // PEM
	// Sealed is the key of this CA, by the ID of the authority that can open it.
	Sealed map[string][]byte `json:"sealed,omitempty"`
}

func (r authorityRecord) underWay() bool { return r.Next != "" }

// signs returns the ID of the authority that signs; "" without a record.
func (r authorityRecord) signs() string {
	if len(r.Authorities) == 0 {
		return ""
	}
	return r.Authorities[0].ID
}

func (r authorityRecord) ids() (ids []string) {
	for _, a := range r.Authorities {
		ids = append(ids, a.ID)
	}
	return ids
}

// report returns what a server reports for a CA. One that goes away counts differently: the server has not
// proved that it accepts it, and somebody may want to go on with it after all.
func (r authorityRecord) report(id string) string {
	if r.Undo && id == r.Next {
		return "-" + id
	}
	return id
}

// reports returns what a server reports once it has followed.
func (r authorityRecord) reports() (all []string) {
	for _, id := range r.ids() {
		all = append(all, r.report(id))
	}
	return all
}

// check refuses a record that no server can have written.
func (r authorityRecord) check() error {
	if n := len(r.Authorities); n < 1 || n > 2 || r.underWay() != (n == 2) || r.underWay() && !slices.Contains(r.ids(), r.Next) {
		return fmt.Errorf("%s in etcd is not what an everynode server writes there: restore it from a backup", authoritiesKey)
	}
	return nil
}

// swapped returns the record with the other authority as the one that signs.
func (r authorityRecord) swapped(now time.Time) authorityRecord {
	r.Authorities = []sealedAuthority{r.Authorities[1], r.Authorities[0]}
	r.Changed = now.UTC().Truncate(time.Second)
	return r
}

// alone returns the record with only the authority that signs, and without keys.
func (r authorityRecord) alone(now time.Time) (authorityRecord, error) {
	signer := r.Authorities[0]
	signer.Sealed = nil
	next := authorityRecord{Authorities: []sealedAuthority{signer}, Changed: now.UTC().Truncate(time.Second), revision: r.revision}
	if len(r.Cross) == 0 {
		return next, nil
	}
	certs, err := certutil.ParseCertsPEM(r.Cross)
	if err != nil {
		return next, fmt.Errorf("read the cross-signed certificates in %s: %w", authoritiesKey, err)
	}
	certs = slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return pki.ID(c) != signer.ID })
	if len(certs) > 0 {
		next.Cross, err = certutil.EncodeCertificates(certs...)
	}
	return next, err
}

// begun returns the record with a new CA beside the one that signs, and the new CA, which is as
// old as the other one to those who verify it: this machine's clock may be ahead.
func (r authorityRecord) begun(old *pki.Authority, now time.Time) (next authorityRecord, fresh *pki.Authority, err error) {
	if fresh, err = pki.NewAuthority(pki.ClusterCA, pki.ClusterCACN, old.Cert.NotBefore); err != nil {
		return r, nil, err
	}
	cross, err := crossSign(fresh, old, now)
	if err != nil {
		return r, nil, err
	}
	crossPEM, err := certutil.EncodeCertificates(cross)
	if err != nil {
		return r, nil, fmt.Errorf("encode the new CA: %w", err)
	}
	first, err := sealAuthority(old, fresh)
	if err != nil {
		return r, nil, err
	}
	second, err := sealAuthority(fresh, old)
	if err != nil {
		return r, nil, err
	}
	return authorityRecord{
		Authorities: []sealedAuthority{first, second}, Next: second.ID, Cross: append(slices.Clone(r.Cross), crossPEM...),
		Changed: now.UTC().Truncate(time.Second), revision: r.revision,
	}, fresh, nil
}

// crossSign returns a certificate of the authority a, signed by another one. Both have the
// same name, so the certificate says which key has signed it. Otherwise OpenSSL would take it
// for a self-signed one.
func crossSign(a, by *pki.Authority, now time.Time) (*x509.Certificate, error) {
	template := *a.Cert
	if template.NotAfter.After(by.Cert.NotAfter) {
		template.NotAfter = by.Cert.NotAfter
	}
	template.AuthorityKeyId = by.Cert.SubjectKeyId
	var err error
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, by.Cert, a.Key.Public(), by.Key)
	if err != nil {
		return nil, fmt.Errorf("sign the new CA with the old one: %w", err)
	}
	return x509.ParseCertificate(der)
}

const sealPurpose = "everynode: sealing of the key of another CA, 1"

func sealAuthority(a, with *pki.Authority) (s sealedAuthority, err error) {
	s.ID = a.ID()
	if s.Cert, err = certutil.EncodeCertificates(a.Cert); err != nil {
		return s, fmt.Errorf("encode a CA: %w", err)
	}
	key, err := keyutil.MarshalPrivateKeyToPEM(a.Key)
	if err != nil {
		return s, fmt.Errorf("encode the key of a CA: %w", err)
	}
	aead, err := newAEAD(with, sealPurpose)
	if err != nil {
		return s, err
	}
	s.Sealed = map[string][]byte{with.ID(): aead.Seal(nil, nil, key, []byte(s.ID))}
	return s, nil
}

// errUnknownCA says that a server has none of the CAs that the cluster trusts.
var errUnknownCA = errors.New("the cluster's CA was rotated while this server was away")

// open returns the authority with its key, if it is one of known, or sealed for one of them.
func (s sealedAuthority) open(known []*pki.Authority) (*pki.Authority, error) {
	for _, a := range known {
		if a.ID() == s.ID {
			return a, nil
		}
	}
	certs, err := certutil.ParseCertsPEM(s.Cert)
	if err != nil || pki.ID(certs[0]) != s.ID {
		return nil, fmt.Errorf("the CA %s in %s is damaged: restore it from a backup", s.ID, authoritiesKey)
	}
	for _, a := range known {
		sealed, ok := s.Sealed[a.ID()]
		if !ok {
			continue
		}
		aead, err := newAEAD(a, sealPurpose)
		if err != nil {
			return nil, err
		}
		data, err := aead.Open(nil, nil, sealed, []byte(s.ID))
		if err != nil {
			return nil, fmt.Errorf("the key of the CA %s in %s is damaged: restore it from a backup", s.ID, authoritiesKey)
		}
		key, err := keyutil.ParsePrivateKeyPEM(data)
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, fmt.Errorf("the key of the CA %s in %s is not a key: restore it from a backup", s.ID, authoritiesKey)
		}
		return &pki.Authority{Cert: certs[0], Key: signer}, nil
	}
	return nil, errUnknownCA
}

// authorities reads the record of the cluster.
func (c *sharedStore) authorities(ctx context.Context) (authorityRecord, error) {
	var got *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		got, err = c.client.Get(ctx, authoritiesKey)
		return err
	})
	if err != nil {
		return authorityRecord{}, err
	}
	return parseAuthorities(got)
}

func parseAuthorities(got *clientv3.GetResponse) (authorityRecord, error) {
	r := authorityRecord{}
	if len(got.Kvs) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(got.Kvs[0].Value, &r); err != nil {
		return authorityRecord{}, authorityRecord{}.check()
	}
	r.revision = got.Kvs[0].ModRevision
	return r, r.check()
}

// change is a new value of a key that was read at a revision.
type change struct {
	key      string
	value    any // JSON
	revision int64
}

// commit makes all changes or, when somebody has written one of the keys since, none.
func (c *sharedStore) commit(ctx context.Context, changes ...change) (done bool, err error) {
	var unchanged []clientv3.Cmp
	var puts []clientv3.Op
	for _, ch := range changes {
		data, err := json.Marshal(ch.value)
		if err != nil {
			return false, fmt.Errorf("encode %s: %w", ch.key, err)
		}
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(ch.key), "=", ch.revision))
		puts = append(puts, clientv3.OpPut(ch.key, string(data)))
	}
	err = c.do(ctx, func(ctx context.Context) error {
		got, err := c.client.Txn(ctx).If(unchanged...).Then(puts...).Commit()
		if err == nil {
			done = got.Succeeded
		}
		return err
	})
	return done, err
}

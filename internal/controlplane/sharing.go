package controlplane

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/pki"
)

// recordKey is where the servers of a cluster keep, in their etcd, what they
// must agree on. It is below /registry, so that a backup of the cluster contains
// it, and is not a resource of the API.
const recordKey = "/registry/everynode/cluster"

// sharedPair is a key below pki/ that all servers of a cluster have in common,
// and its public half.
type sharedPair struct{ what, key, public string }

// sharedPairs returns the pairs that must not differ: a node trusts one authority,
// and a token that one server has signed is presented to another.
func sharedPairs() []sharedPair {
	return []sharedPair{
		{"cluster CA", pki.ClusterCA + ".key", pki.ClusterCA + ".crt"},
		{"front proxy CA", pki.FrontProxyCA + ".key", pki.FrontProxyCA + ".crt"},
		{"service account key", pki.ServiceAccountKey, pki.ServiceAccountPub},
	}
}

// sharedFiles returns the names of the pairs' files below pki/, a key before its
// public half, as in pki.Write.
func sharedFiles() (names []string) {
	for _, p := range sharedPairs() {
		names = append(names, p.key, p.public)
	}
	return names
}

// clusterRecord is what all servers of a cluster agree on.
type clusterRecord struct {
	// Keys are the SHA-256 sums of the public halves of sharedPairs.
	Keys        map[string]string `json:"keys"`
	ServiceCIDR string            `json:"serviceCIDR"`
	PodCIDR     string            `json:"podCIDR"`
	// Port is the port of every API server: the service kubernetes has one for all.
	Port string `json:"port"`
	// EncryptSecrets: Secrets are encrypted in etcd.
	EncryptSecrets bool `json:"encryptSecrets,omitempty"`
	// MadeBy says, for people, which server was the first.
	MadeBy string `json:"madeBy"`
}

// agreement is a server's agreement with the other servers of its etcd.
type agreement struct {
	server *settings
	store  *sharedStore
}

// agreeWithCluster makes the identities of a server whose etcd others may use
// as well. It fails if that etcd belongs to a cluster with other keys or ranges.
// Before it returns, nobody else knows anything about this server. If servers
// start at the same moment with keys of their own, one of them wins.
func agreeWithCluster(ctx context.Context, s *settings, now time.Time) error {
	c, err := s.etcd().open()
	if err != nil {
		return err
	}
	defer c.close()
	a := agreement{s, c}
	for {
		old, revision, err := c.record(ctx)
		if err != nil {
			return err
		}
		if old != nil {
			if err := a.haveKeysOf(old); err != nil {
				return err
			}
			s.encryptSecrets = s.EncryptSecrets || old.EncryptSecrets
		}
		if err := a.takeRecorded(ctx); err != nil {
			return err
		}
		if err := s.ids().ensure(now); err != nil {
			return err
		}
		ours, err := a.ownRecord()
		if err != nil {
			return err
		}
		if old != nil {
			return a.compare(old, ours)
		}
		if revision == 0 { // otherwise somebody has emptied the record, and wants other keys
			if err := a.checkUnrecorded(ctx); err != nil {
				return err
			}
		}
		isNew, err := c.isNew(ctx)
		if err != nil {
			return err
		}
		// If somebody has emptied the record, what this server did so far counts.
		ours.EncryptSecrets = s.EncryptSecrets || isNew || revision > 0 && s.encryptSecrets
		s.encryptSecrets = ours.EncryptSecrets
		if done, err := c.writeRecord(ctx, ours, revision); done || err != nil {
			return err
		}
	}
}

// takeRecorded makes a server that was off trust the CAs that the cluster trusts now. If the
// server has none of them, its keys are not the cluster's, which the caller reports next.
func (a agreement) takeRecorded(ctx context.Context) error {
	r, err := a.store.authorities(ctx)
	if err == nil && r.revision > 0 && exists(a.server.path("pki", pki.ClusterCA+".crt")) {
		_, err = a.server.ids().take(r)
	}
	if errors.Is(err, errUnknownCA) {
		return nil
	}
	return err
}

// ownRecord returns the record that this server proposes.
func (a agreement) ownRecord() (*clusterRecord, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this server: %w", err)
	}
	r := &clusterRecord{
		Keys: map[string]string{}, ServiceCIDR: a.server.serviceRange.String(), PodCIDR: a.server.podRange.String(), Port: a.server.portText(),
		MadeBy: fmt.Sprintf("%s (%s)", host, a.server.advertise),
	}
	for _, p := range sharedPairs() {
		if r.Keys[p.what], err = sumOf(a.server.path("pki", p.public)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// sumOf returns the SHA-256 sum, in hex, of the content of the first PEM block of a file.
func sumOf(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read what the servers of a cluster share: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return "", fmt.Errorf("%s contains no PEM block; copy it again from another server of the cluster, or restore it from a backup", path)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// haveKeysOf returns an error if this server lacks keys of the cluster: it must not make its own.
func (a agreement) haveKeysOf(r *clusterRecord) error {
	var missing []string
	for _, name := range sharedFiles() {
		if _, err := os.Stat(a.server.path("pki", name)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
		} else if err != nil {
			return fmt.Errorf("look for what the servers of a cluster share: %w", err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the etcd at %s already has a cluster, which %s made, and this server lacks its keys (%s): %s",
			a.server.etcd().text(), r.MadeBy, strings.Join(missing, ", "), howToShare(a.server.path("pki")))
	}
	return nil
}

// compare returns an error if a server with the record ours cannot be one of the cluster with the record old.
func (a agreement) compare(old, ours *clusterRecord) error {
	var differ []string
	for _, what := range slices.Sorted(maps.Keys(ours.Keys)) {
		if old.Keys[what] != ours.Keys[what] {
			differ = append(differ, what)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("the etcd at %s already has a cluster, which %s made, and whose keys are not those in %s (%s): %s",
			a.server.etcd().text(), old.MadeBy, a.server.path("pki"), strings.Join(differ, ", "), howToShare(a.server.path("pki")))
	}
	for _, c := range []struct{ flag, what, was, is string }{
		{"--service-cidr", "service range", old.ServiceCIDR, ours.ServiceCIDR},
		{"--pod-cidr", "pod range", old.PodCIDR, ours.PodCIDR},
		{"--listen", "port of the API server", old.Port, ours.Port},
	} {
		if c.was != c.is {
			return fmt.Errorf("the cluster in the etcd at %s has the %s %s, but this server was given %s: all its servers need the same; correct %s",
				a.server.etcd().text(), c.what, c.was, c.is, c.flag)
		}
	}
	return nil
}

func howToShare(pki string) string {
	return fmt.Sprintf("copy %s from the same folder of that server, or of any other of the cluster, to %s and start again; or give this server its own etcd",
		strings.Join(sharedFiles(), ", "), pki)
}

// record reads what the cluster agrees on, and the revision for replacing it.
// The record is nil if there is none, or if somebody has emptied it to change it.
func (c *sharedStore) record(ctx context.Context) (*clusterRecord, int64, error) {
	var got *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		got, err = c.client.Get(ctx, recordKey)
		return err
	})
	if err != nil || len(got.Kvs) == 0 {
		return nil, 0, err
	}
	if len(got.Kvs[0].Value) == 0 {
		return nil, got.Kvs[0].ModRevision, nil
	}
	r := &clusterRecord{}
	if err := json.Unmarshal(got.Kvs[0].Value, r); err != nil || len(r.Keys) == 0 {
		return nil, 0, fmt.Errorf("%s in etcd is not what an everynode server writes there (%q): restore it from a backup", recordKey, got.Kvs[0].Value)
	}
	return r, got.Kvs[0].ModRevision, nil
}

// writeRecord writes r unless somebody has written another since revision.
func (c *sharedStore) writeRecord(ctx context.Context, r *clusterRecord, revision int64) (done bool, err error) {
	data, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("encode what the servers agree on: %w", err)
	}
	return c.putAt(ctx, recordKey, data, revision)
}

// putAt writes a key unless somebody has written it since revision; 0: unless it exists.
func (c *sharedStore) putAt(ctx context.Context, key string, value []byte, revision int64) (done bool, err error) {
	err = c.do(ctx, func(ctx context.Context) error {
		got, err := c.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
			Then(clientv3.OpPut(key, string(value))).Commit()
		if err == nil {
			done = got.Succeeded
		}
		return err
	})
	return done, err
}

// isNew reports whether no API server has written to the store yet.
func (c *sharedStore) isNew(ctx context.Context) (isNew bool, err error) {
	err = c.do(ctx, func(ctx context.Context) error {
		got, err := c.client.Get(ctx, "/registry/namespaces/kube-system", clientv3.WithCountOnly())
		isNew = err == nil && got.Count == 0
		return err
	})
	return isNew, err
}

// checkUnrecorded checks an etcd without a record. It may contain a cluster
// that was made before there were records, or that everynode did not make.
func (a agreement) checkUnrecorded(ctx context.Context) error {
	var info, namespace *clientv3.GetResponse
	err := a.store.do(ctx, func(ctx context.Context) (err error) {
		if info, err = a.store.client.Get(ctx, "/registry/configmaps/kube-public/cluster-info"); err != nil {
			return err
		}
		namespace, err = a.store.client.Get(ctx, "/registry/namespaces/kube-system", clientv3.WithCountOnly())
		return err
	})
	if err != nil || namespace.Count == 0 {
		return err
	}
	if len(info.Kvs) == 0 {
		return fmt.Errorf("the etcd at %s has a Kubernetes cluster that everynode did not make: give this server its own etcd", a.server.etcd().text())
	}
	theirs, err := authorityInStore(info.Kvs[0].Value)
	if err != nil {
		return fmt.Errorf("read the CA of the cluster in the etcd at %s: %w", a.server.etcd().text(), err)
	}
	path := a.server.path("pki", pki.ClusterCA+".crt")
	ours, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the cluster's authority: %w", err)
	}
	if !sameCertificate(theirs, ours) {
		return fmt.Errorf("the etcd at %s has a cluster with a CA other than the one in %s: %s", a.server.etcd().text(), filepath.Dir(path), howToShare(a.server.path("pki")))
	}
	return nil
}

// shareCertificate reports whether two lists (PEM) have a certificate in common.
func shareCertificate(a, b []byte) bool {
	first, errA := certutil.ParseCertsPEM(a)
	second, errB := certutil.ParseCertsPEM(b)
	return errA == nil && errB == nil && slices.ContainsFunc(first, func(c *x509.Certificate) bool { return slices.ContainsFunc(second, c.Equal) })
}

func sameCertificate(a, b []byte) bool {
	first, _ := pem.Decode(a)
	second, _ := pem.Decode(b)
	return first != nil && second != nil && string(first.Bytes) == string(second.Bytes)
}

package node

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"
)

// A node that has joined trusts the CAs that it has pinned, and no others. While the
// cluster's CA is rotated it learns a second one: only from a server whose certificate is
// from a pinned CA, and only if the server still names a CA that is pinned. It never accepts
// a CA again that it has dropped, whoever names it.

// authorityID is a short name for a CA: the first digits of the hash by which join tokens
// name it.
func authorityID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:8])
}

func authorityIDs(certs []*x509.Certificate) (ids []string) {
	for _, c := range certs {
		ids = append(ids, authorityID(c))
	}
	return ids
}

// pins are the CAs of a node, in the order in which its server has named them.
type pins struct {
	trusted []*x509.Certificate
	dropped []string // authorityIDs
}

// follow returns the pins after a server that is trusted by one of them has named the CAs
// said, the one that signs first.
func (p pins) follow(said []*x509.Certificate) (pins, error) {
	next := pins{dropped: p.dropped}
	for _, c := range said {
		if !slices.Contains(p.dropped, authorityID(c)) {
			next.trusted = append(next.trusted, c)
		}
	}
	if !slices.ContainsFunc(next.trusted, func(c *x509.Certificate) bool { return slices.ContainsFunc(p.trusted, c.Equal) }) {
		return p, fmt.Errorf("the server names the CAs %s, but this node trusts only %s, and none of these vouches for those; nothing was changed; "+
			"if the CA was rotated while this node was away, join again with --rejoin", strings.Join(authorityIDs(said), ", "), strings.Join(authorityIDs(p.trusted), ", "))
	}
	for _, c := range p.trusted {
		if !slices.ContainsFunc(next.trusted, c.Equal) {
			next.dropped = append(slices.Clone(next.dropped), authorityID(c))
		}
	}
	return next, nil
}

func (p pins) equal(q pins) bool {
	return slices.EqualFunc(p.trusted, q.trusted, (*x509.Certificate).Equal) && slices.Equal(p.dropped, q.dropped)
}

// among returns the certs that are pinned.
func among(certs, pinned []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return !slices.ContainsFunc(pinned, c.Equal) })
}

// pins reads the pins in the node's credentials, and what it has dropped.
func (d nodeFiles) pins() (p pins, err error) {
	config, err := clientcmd.BuildConfigFromFlags("", d.kubeconfig())
	if err != nil {
		return p, fmt.Errorf("read the node's credentials: %w", err)
	}
	if p.trusted, err = cert.ParseCertsPEM(config.CAData); err != nil {
		return p, fmt.Errorf("read the CA in the node's credentials: %w", err)
	}
	data, err := os.ReadFile(d.dropped())
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p.dropped)
	}
	if err != nil {
		return p, fmt.Errorf("read which CAs this node no longer trusts: %w; delete %s if it is broken", err, d.dropped())
	}
	return p, nil
}

// pin writes pins: first what is dropped, then the CAs by which the kubelet recognizes API
// servers, and last the credentials, which count. If an earlier write fails, the next
// attempt repeats it.
func (d nodeFiles) pin(p pins) error {
	ca, err := cert.EncodeCertificates(p.trusted...)
	if err != nil {
		return fmt.Errorf("encode the cluster's CAs: %w", err)
	}
	dropped, err := json.Marshal(p.dropped)
	if err != nil {
		return fmt.Errorf("encode which CAs this node no longer trusts: %w", err)
	}
	if len(p.dropped) > 0 {
		if err := writeFile(d.dropped(), append(dropped, '\n')); err != nil {
			return err
		}
	}
	config, err := clientcmd.LoadFromFile(d.kubeconfig())
	if err != nil {
		return fmt.Errorf("read the node's credentials: %w", err)
	}
	for _, cluster := range config.Clusters {
		cluster.CertificateAuthorityData = ca
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("render the node's credentials: %w", err)
	}
	if err := writeFile(d.ca(), ca); err != nil {
		return err
	}
	return writeFile(d.kubeconfig(), data)
}

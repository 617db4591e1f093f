package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/admission"
)

// authoritiesAnnotation of a Node lists the IDs of the CAs that the node trusts. The first
// one has signed its certificate. The node's agent writes it.
const authoritiesAnnotation = "everynode.io/authorities"

// Authorities says which CAs a cluster trusts, and which servers and nodes have followed.
type Authorities struct {
	// Step is how far a rotation has got, one of the constants below.
	Step string `json:"step"`
	// Authorities are trusted; the first signs.
	Authorities []Authority `json:"authorities"`
	// Servers are the running servers.
	Servers []ServerKeys `json:"servers"`
	// Nodes is the number of nodes that have an agent. Late lists those that have not followed.
	Nodes int        `json:"nodes"`
	Late  []LateNode `json:"late"`
}

// The steps of a rotation of the CA.
const (
	CASteady   = "none"     // there is one CA
	CAPrepared = "prepared" // two are trusted, and the old one signs
	CASwitched = "switched" // two are trusted, and the new one signs
)

// Authority is a CA, without its key.
type Authority struct {
	ID    string    `json:"id"`
	Hash  string    `json:"hash"` // as join tokens name it
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	Signs bool      `json:"signs"`
}

// LateNode is a node that does not trust all the CAs that it should, or has a certificate
// of the wrong CA.
type LateNode struct {
	Name string `json:"name"`
	// State is NodeLate, NodeAway or NodeRevoked.
	State string `json:"state"`
}

// The states of a node that has not followed.
const (
	NodeLate    = "late"    // Ready
	NodeAway    = "away"    // not Ready: its agent or its machine is off
	NodeRevoked = "revoked" // it will not follow
)

// AuthorityState reads the state of a running cluster, and changes nothing.
func AuthorityState(ctx context.Context, cfg Config) (*Authorities, error) {
	r, done, err := openCARotation(ctx, cfg)
	if err != nil {
		return nil, err
	}
	state, err := r.state(ctx)
	return state, errors.Join(err, done())
}

func (r *caRotation) state(ctx context.Context) (*Authorities, error) {
	record, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	out := &Authorities{Step: record.step()}
	for i, sealed := range record.Authorities {
		a, err := sealed.describe()
		if err != nil {
			return nil, err
		}
		a.Signs = i == 0
		out.Authorities = append(out.Authorities, a)
	}
	servers, err := r.store.presences(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range servers {
		out.Servers = append(out.Servers, ServerKeys{p.Name, p.Address, slices.Equal(p.Trusts, record.reports())})
	}
	should := hasAll(record.ids())
	switch {
	case record.revision == 0: // nobody had to follow anything
		should = func([]string) bool { return true }
	case record.step() == CASteady: // a node that still trusts another CA drops it by itself
		should = isOf(record.signs())
	}
	out.Nodes, out.Late, err = r.store.lateNodes(ctx, should)
	return out, err
}

func (r authorityRecord) step() string {
	switch {
	case !r.underWay():
		return CASteady
	case r.signs() == r.Next:
		return CASwitched
	}
	return CAPrepared
}

func (s sealedAuthority) describe() (Authority, error) {
	certs, err := certutil.ParseCertsPEM(s.Cert)
	if err != nil {
		return Authority{}, fmt.Errorf("read the CA %s in %s: %w", s.ID, authoritiesKey, err)
	}
	sum := sha256.Sum256(certs[0].RawSubjectPublicKeyInfo)
	return Authority{ID: s.ID, Hash: "sha256:" + hex.EncodeToString(sum[:]), From: certs[0].NotBefore.UTC(), Until: certs[0].NotAfter.UTC()}, nil
}

const (
	// nodesKey is where the API server keeps Nodes in etcd.
	nodesKey = "/registry/minions/"
	// nodesPage is how many of them are read at a time.
	nodesPage = 200
)

// hasAll returns a predicate: whether a node has the authorities ids, and a certificate of the first.
func hasAll(ids []string) func(has []string) bool {
	return func(has []string) bool {
		return len(has) == len(ids) && has[0] == ids[0] && !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(has, id) })
	}
}

// isOf returns a predicate: whether a node has a certificate of the authority id, which it then trusts.
func isOf(id string) func(has []string) bool {
	return func(has []string) bool { return len(has) > 0 && has[0] == id }
}

// isNotOf returns a predicate: whether a node has a certificate of another authority than id. A node
// without the annotation has never followed.
func isNotOf(id string) func(has []string) bool {
	return func(has []string) bool { return len(has) == 0 || has[0] != id }
}

// lateNodes counts the nodes that have an agent, and lists those whose authorities are not
// what they should be. It reads them from etcd: a command on one machine may not reach the
// API server that runs on it.
func (c *sharedStore) lateNodes(ctx context.Context, should func(has []string) bool) (count int, late []LateNode, err error) {
	revoked, err := c.revoked(ctx)
	if err != nil {
		return 0, nil, err
	}
	from, end := nodesKey, clientv3.GetPrefixRangeEnd(nodesKey)
	late = []LateNode{}
	for {
		var got *clientv3.GetResponse
		err := c.do(ctx, func(ctx context.Context) (err error) {
			got, err = c.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(nodesPage))
			return err
		})
		if err != nil {
			return 0, nil, fmt.Errorf("read Nodes in etcd: %w", err)
		}
		for _, kv := range got.Kvs {
			node := &corev1.Node{}
			if err := runtime.DecodeInto(scheme.Codecs.UniversalDeserializer(), kv.Value, node); err != nil {
				return 0, nil, fmt.Errorf("read %s in etcd: %w", kv.Key, err)
			}
			if _, simulated := node.Labels["everynode.io/simulated"]; simulated {
				continue
			}
			count++
			if state := lateness(node, should, revoked); state != "" {
				late = append(late, LateNode{node.Name, state})
			}
		}
		if !got.More {
			return count, late, nil
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
}

// lateness returns the state of a node whose authorities are not what they should be; "" for others.
func lateness(node *corev1.Node, should func(has []string) bool, revoked map[string]string) string {
	_, isRevoked := revoked[node.Name]
	switch {
	case should(strings.Fields(node.Annotations[authoritiesAnnotation])):
		return ""
	case isRevoked:
		return NodeRevoked
	case slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}):
		return NodeLate
	}
	return NodeAway
}

// revoked returns the revoked nodes: when each was revoked, by name.
func (c *sharedStore) revoked(ctx context.Context) (map[string]string, error) {
	var got *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		got, err = c.client.Get(ctx, "/registry/configmaps/"+metav1.NamespaceSystem+"/"+admission.RevokedNodes)
		return err
	})
	if err != nil || len(got.Kvs) == 0 {
		return nil, err
	}
	list := &corev1.ConfigMap{}
	if err := runtime.DecodeInto(scheme.Codecs.UniversalDeserializer(), got.Kvs[0].Value, list); err != nil {
		return nil, fmt.Errorf("read %s in etcd: %w", got.Kvs[0].Key, err)
	}
	return list.Data, nil
}

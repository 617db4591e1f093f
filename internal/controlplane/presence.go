package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	// serversKey is where each running server has an entry in etcd, under its lease.
	serversKey = "/registry/everynode/servers/"
	// endpointsKey is where each running API server keeps its address in etcd, even one
	// of a release without an entry under serversKey.
	endpointsKey = "/registry/masterleases/"
	// presenceTime is how long a dead server counts as running, in seconds.
	presenceTime = 15
	// notLoaded is the generation of a server that does not serve yet.
	notLoaded = -1
)

// presence is what a running server says about itself.
type presence struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Encrypts: the server encrypts the Secrets that it writes.
	Encrypts bool `json:"encrypts"`
	// Loaded is the generation of the keyring that its API server uses.
	Loaded int64 `json:"loaded"`
	// Trusts are the CAs that its API server uses (authorityRecord.reports), the one that signs first; nil:
	// the server is changing to others, or has an older release.
	Trusts []string `json:"trusts,omitempty"`
}

func (p presence) String() string { return fmt.Sprintf("%s (%s)", p.Name, p.Address) }

// presences lists the running servers, sorted by name.
func (c *sharedStore) presences(ctx context.Context) (servers []presence, err error) {
	var got *clientv3.TxnResponse
	err = c.do(ctx, func(ctx context.Context) (err error) {
		got, err = c.client.Txn(ctx).Then(clientv3.OpGet(serversKey, clientv3.WithPrefix()),
			clientv3.OpGet(endpointsKey, clientv3.WithPrefix(), clientv3.WithKeysOnly())).Commit()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask which servers run: %w", err)
	}
	for _, kv := range got.Responses[0].GetResponseRange().Kvs {
		p := presence{}
		if err := json.Unmarshal(kv.Value, &p); err != nil {
			return nil, fmt.Errorf("%s in etcd is not what a server writes there: %w", kv.Key, err)
		}
		servers = append(servers, p)
	}
	for _, kv := range got.Responses[1].GetResponseRange().Kvs {
		address := strings.TrimPrefix(string(kv.Key), endpointsKey)
		if !slices.ContainsFunc(servers, func(p presence) bool { return p.Address == address }) {
			servers = append(servers, presence{Name: unknownServer, Address: address, Loaded: notLoaded})
		}
	}
	slices.SortFunc(servers, func(a, b presence) int { return strings.Compare(a.String(), b.String()) })
	return servers, nil
}

// unknownServer replaces the name of a server that says nothing about its keys.
const unknownServer = "a server that is starting, or has an older release"

// announced is a server's own entry among the presences.
type announced struct {
	session *concurrency.Session
	key     string
}

// announce creates a lease, and under it the entry of this server.
func (c *sharedStore) announce(ctx context.Context, p presence) (*announced, error) {
	session, err := concurrency.NewSession(c.client, concurrency.WithTTL(presenceTime), concurrency.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("make a lease in etcd: %w", err)
	}
	a := &announced{session, fmt.Sprintf("%s%x", serversKey, session.Lease())}
	if err := a.say(ctx, c, p); err != nil {
		a.withdraw(context.WithoutCancel(ctx), c)
		return nil, err
	}
	return a, nil
}

// say replaces the entry.
func (a *announced) say(ctx context.Context, c *sharedStore, p presence) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode this server's entry: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sharedStoreTry)
	defer cancel()
	if _, err := c.client.Put(ctx, a.key, string(data), clientv3.WithLease(a.session.Lease())); err != nil {
		return fmt.Errorf("publish to the other servers which keys this one has: %w", err)
	}
	return nil
}

// lost reports whether the lease has expired: others may believe that this server is dead.
func (a *announced) lost() bool {
	select {
	case <-a.session.Done():
		return true
	default:
		return false
	}
}

// withdraw ends the lease, so that nobody waits for this server.
func (a *announced) withdraw(ctx context.Context, c *sharedStore) {
	a.session.Orphan()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// If etcd does not answer, the lease expires by itself.
	_, _ = c.client.Revoke(ctx, a.session.Lease())
}

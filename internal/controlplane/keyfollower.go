package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	encryptioncontroller "k8s.io/apiserver/pkg/server/options/encryptionconfig/controller"
	"k8s.io/client-go/transport"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// followEvery is how often a server checks whether the keys of Secrets have changed, and
// its API server whether their file has.
const followEvery = 2 * time.Second

// reconnectEvery is how often clients of this process check whether their certificates have
// changed. If so, they reconnect.
const reconnectEvery = 10 * time.Second

// hastenReload makes API servers of this process check the keys' file as often as it can
// change, and clients their certificates. Kubernetes checks them every few minutes, and has
// no flag for that.
func hastenReload() {
	encryptioncontroller.EncryptionConfigFileChangePollDuration = followEvery
	transport.CertCallbackRefreshDuration = reconnectEvery
}

// keyFollower makes a server's API server use the keys of Secrets that the cluster has, and
// records in etcd which ones it uses. A rotation waits for that. It does the same for the CAs.
type keyFollower struct {
	*settings
	urls  []string
	store *sharedStore
	me    presence
	seen  *announced // nil before others can see this server
	ring  keyring    // that the API server's file was written from
	said  string     // the last complaint
	// inUse returns the hash of the file that the API server uses.
	inUse func() string
	// authorities follows the CAs. A server reports its keys and its CAs in one entry.
	authorities *authorityFollower
}

func (s *settings) newKeyFollower(urls []string) *keyFollower {
	return &keyFollower{settings: s, urls: urls, me: presence{Address: s.advertise.String(), Loaded: notLoaded}, inUse: loadedEncryption,
		authorities: &authorityFollower{settings: s, inUse: s.ids().inUse}}
}

// begin announces this server to the others, and then reads the keys for the API server's
// first file. In this order, the keys cannot change twice before the API server has them.
func (f *keyFollower) begin(ctx context.Context) error {
	if err := f.announce(ctx); err != nil {
		return err
	}
	r, err := f.store.authorities(ctx)
	if err == nil {
		err = f.authorities.take(r, time.Now())
	}
	if err != nil {
		return err
	}
	ring, err := f.store.keyring(ctx)
	if err != nil {
		return err
	}
	if f.secretsKeys, err = f.open(ring); err != nil {
		return err
	}
	f.ring = ring
	return f.note(ring)
}

// note raises the format of the data directory if the cluster has a keyring. From then on a
// start waits for etcd, and releases that do not know keyrings refuse to start.
func (f *keyFollower) note(ring keyring) error {
	if ring.revision == 0 {
		return nil
	}
	return f.data().noteFormat(keyringFormat)
}

// announce makes this server visible to the others.
func (f *keyFollower) announce(ctx context.Context) (err error) {
	if f.me.Name, err = os.Hostname(); err != nil {
		return fmt.Errorf("name this server: %w", err)
	}
	f.me.Encrypts = f.encryptSecrets
	if f.store == nil {
		if f.store, err = f.etcd().openAt(f.urls); err != nil {
			return err
		}
	}
	f.seen, err = f.store.announce(ctx, f.me)
	return err
}

// open opens the keys of a keyring with the key of the cluster's CA.
func (f *keyFollower) open(ring keyring) ([]secretsKey, error) {
	sealer, err := f.ids().sealer()
	if err != nil {
		return nil, err
	}
	return sealer.open(ring)
}

// close removes this server from the list of running servers.
func (f *keyFollower) close(ctx context.Context) {
	if f.seen != nil {
		f.seen.withdraw(ctx, f.store)
	}
	if f.store != nil {
		f.store.close()
	}
}

// run follows until ctx ends. It returns an error if the API server has keys that it must not write with.
func (f *keyFollower) run(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		err := f.follow(ctx)
		var stale staleKeysError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &stale):
			return err
		case err != nil && err.Error() != f.said:
			f.said = err.Error()
			klog.ErrorS(err, "Cannot follow the keys of Secrets or the CA; a rotation of them waits", "nextTry", followEvery)
		case err == nil:
			f.said = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// staleKeysError ends a server that was cut off while keys or CAs were rotated: what it
// writes might be lost, and nobody trusts what it signs.
type staleKeysError struct{ error }

// follow checks once, and reports in etcd what has changed.
func (f *keyFollower) follow(ctx context.Context) error {
	if f.seen == nil || f.seen.lost() {
		if err := f.announce(ctx); err != nil {
			return err
		}
	}
	now := f.me
	err := errors.Join(f.authorities.follow(ctx, f.store), f.followKeys(ctx, &now))
	now.Trusts = f.authorities.trusts
	if now.Loaded == f.me.Loaded && slices.Equal(now.Trusts, f.me.Trusts) {
		return err
	}
	if sayErr := f.seen.say(ctx, f.store, now); sayErr != nil {
		return errors.Join(err, sayErr)
	}
	f.me = now
	return err
}

// followKeys follows the keys of Secrets, and notes in now which ones the API server has.
func (f *keyFollower) followKeys(ctx context.Context, now *presence) error {
	ask, cancel := context.WithTimeout(ctx, sharedStoreTry)
	defer cancel()
	got, err := f.store.client.Get(ask, keyringKey)
	if err != nil {
		return fmt.Errorf("read the keys of Secrets: %w", err)
	}
	ring, err := parseKeyring(got)
	if err != nil {
		return err
	}
	if f.me.Loaded != notLoaded && ring.Generation > f.me.Loaded+1 {
		return staleKeysError{errors.New("the keys of Secrets were rotated while this server could not reach etcd: restart it to load the new ones")}
	}
	if ring.Generation != f.ring.Generation {
		if err := f.take(ring); err != nil {
			return err
		}
	}
	if f.me.Loaded != ring.Generation && f.loaded() {
		now.Loaded = ring.Generation
	}
	return nil
}

// take writes the API server's file for a keyring.
func (f *keyFollower) take(ring keyring) error {
	keys, err := f.open(ring)
	if err != nil {
		return err
	}
	if err := f.note(ring); err != nil {
		return err
	}
	f.secretsKeys = keys
	if err := f.writeEncryption(); err != nil {
		return err
	}
	f.ring = ring
	return nil
}

// loaded reports whether the API server of this process uses the file as it is now.
func (f *keyFollower) loaded() bool {
	hash, err := encryptionconfig.GetEncryptionConfigHash(f.path("pki", encryptionFile))
	if err != nil {
		return false
	}
	return hash == f.inUse()
}

// loadedEncryption returns the hash of the file that the API server of this process uses, as
// it reports it in its metrics; "" if it does not report it.
func loadedEncryption() string {
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil && len(families) == 0 {
		return ""
	}
	for _, family := range families {
		if family.GetName() != "apiserver_encryption_config_controller_last_config_info" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "hash" {
					return label.GetValue()
				}
			}
		}
	}
	return ""
}

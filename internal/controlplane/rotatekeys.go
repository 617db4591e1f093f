package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
)

const (
	// loadTime is how long the servers may take to load the keys that are in etcd. A dead
	// server counts as running for a while.
	loadTime = time.Minute
	// lastRequests is how long after a change of keys a request can still write with the old
	// one: the longest that an API server works on a request, and then etcd on its write.
	lastRequests = 70 * time.Second
	// rewriteWorkers is how many Secrets are written at a time.
	rewriteWorkers = 8
	// rewritePasses bounds how often a rotation looks for Secrets that are not written with the
	// new key yet. Secrets that are created meanwhile are, so the second pass finds none.
	rewritePasses = 5
)

// keyRotation introduces a new key of Secrets, in steps that are recorded in etcd: all
// servers can read with it, all write with it, every Secret is rewritten, the old keys are
// dropped. It begins after the last step that was done, so it can be interrupted anywhere
// and started again.
type keyRotation struct {
	*settings
	store  *sharedStore
	sealer *keySealer
	// touch makes an API server write a Secret as it is.
	touch func(ctx context.Context, name types.NamespacedName) error
	// lastRequests and loadTime are the constants, except in tests.
	lastRequests, loadTime time.Duration
}

// RotateSecretsKey encrypts all Secrets of a running cluster with a new key, and drops the
// old one. It continues a rotation that was interrupted. cfg has the data directory of any
// of the cluster's servers, and EtcdServers if its servers have them. admin may write Secrets.
func RotateSecretsKey(ctx context.Context, cfg Config, admin *rest.Config) (*SecretsKeys, error) {
	r, done, err := openRotation(ctx, cfg, admin)
	if err != nil {
		return nil, err
	}
	err = r.run(ctx)
	if err == nil {
		var keys *SecretsKeys
		if keys, err = r.store.secretsKeys(ctx); err == nil {
			return keys, done()
		}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: nothing is lost; the same command continues: %w", ctx.Err())
	}
	return nil, errors.Join(err, done())
}

// openRotation checks what can be checked before anything is changed. done closes what it
// has opened.
func openRotation(ctx context.Context, cfg Config, admin *rest.Config) (r *keyRotation, done func() error, err error) {
	s, err := cfg.resolve()
	if err != nil {
		return nil, nil, err
	}
	r = &keyRotation{settings: s, lastRequests: lastRequests, loadTime: loadTime}
	if err := s.data().checkSecrets(); err != nil {
		return nil, nil, err
	}
	if r.sealer, err = s.ids().sealer(); err != nil {
		return nil, nil, fmt.Errorf("%w; run this as the server's user, on a server of the cluster, with its --data-dir", err)
	}
	client, err := metadata.NewForConfig(unpaced(admin))
	if err != nil {
		return nil, nil, fmt.Errorf("make a client for Secrets: %w", err)
	}
	r.touch = toucher(client.Resource(corev1.SchemeGroupVersion.WithResource("secrets")))
	if r.store, done, err = s.runningEtcd().open(ctx); err != nil {
		return nil, nil, err
	}
	if err := r.check(ctx); err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return r, done, nil
}

// check refuses a cluster whose keys this server cannot open, or that does not encrypt Secrets.
func (r *keyRotation) check(ctx context.Context) error {
	ring, err := r.store.keyring(ctx)
	if err != nil {
		return err
	}
	if _, err := r.sealer.open(ring); err != nil {
		return err
	}
	servers, err := r.store.presences(ctx)
	if err != nil {
		return err
	}
	return checkEncrypts(servers)
}

// unpaced returns cfg without a limit on the rate of requests: the API server limits it.
func unpaced(cfg *rest.Config) *rest.Config {
	out := rest.CopyConfig(cfg)
	out.QPS = -1
	return out
}

// run begins or continues a rotation, until the new key is the only one.
func (r *keyRotation) run(ctx context.Context) error {
	ring, err := r.begin(ctx)
	for target := ring.Next; err == nil && ring.Next == target; {
		if err = r.step(ctx, ring); err == nil {
			ring, err = r.change(ctx, ring.advanced())
		}
	}
	if err != nil {
		return err
	}
	return r.waitLoaded(ctx, ring, "old key dropped on")
}

// begin returns the keyring with the next key, which it makes unless there is one.
func (r *keyRotation) begin(ctx context.Context) (keyring, error) {
	ring, err := r.store.keyring(ctx)
	if err != nil {
		return ring, err
	}
	authorities, err := r.store.authorities(ctx)
	if err != nil {
		return ring, err
	}
	if authorities.underWay() { // a new key would be sealed for one of the two CAs only
		return ring, errors.New("the CA is being rotated: finish that first, with `everynode server rotate ca finish` or `everynode server rotate ca undo`")
	}
	if ring.Next != "" {
		r.progress("continues the rotation to "+ring.Next, time.Now())
		return ring, nil
	}
	// Before a key is made: no server may be behind the last change.
	if err := r.waitLoaded(ctx, ring, "found, with the cluster's keys:"); err != nil {
		return ring, err
	}
	next, err := r.sealer.begun(ring, time.Now())
	if err != nil {
		return ring, err
	}
	ring, err = r.change(ctx, next)
	if err == nil && ring.Next == "" {
		err = errors.New("somebody else has rotated the key at the same moment: check its state with `everynode server rotate status`")
	}
	return ring, err
}

// change writes the next keyring. It returns the keyring in etcd, which is somebody else's if
// they were quicker.
func (r *keyRotation) change(ctx context.Context, next keyring) (keyring, error) {
	if _, err := r.store.replaceKeyring(ctx, next); err != nil {
		return next, fmt.Errorf("write the keys of Secrets: %w", err)
	}
	return r.store.keyring(ctx)
}

// step does what must be done before the keyring may change again.
func (r *keyRotation) step(ctx context.Context, ring keyring) error {
	if ring.writer() != ring.Next {
		return r.waitLoaded(ctx, ring, ring.Next+" known to")
	}
	if err := r.waitLoaded(ctx, ring, ring.Next+" in use on"); err != nil {
		return err
	}
	begin := time.Now()
	if err := r.rewrite(ctx, ring.Next); err != nil {
		return err
	}
	r.progress("Secrets are written with it", begin)
	begin = time.Now()
	if err := pause(ctx, r.lastRequests); err != nil {
		return err
	}
	r.progress("earlier requests have ended", begin)
	return r.rewrite(ctx, ring.Next)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// waitLoaded returns when all running servers have the keyring.
func (r *keyRotation) waitLoaded(ctx context.Context, ring keyring, what string) error {
	begin, told := time.Now(), time.Now()
	for {
		servers, err := r.store.presences(ctx)
		if err != nil {
			return err
		}
		late := behind(servers, ring.Generation)
		switch {
		case len(servers) > 0 && len(late) == 0:
			r.progress(fmt.Sprintf("%s %d server(s)", what, len(servers)), begin)
			return nil
		case time.Since(begin) > r.loadTime:
			return describeLate(late)
		case time.Since(told) > showEvery:
			told = time.Now()
			r.progress("waiting for "+strings.Join(late, ", "), begin)
		}
		if err := pause(ctx, followEvery/4); err != nil {
			return err
		}
	}
}

// behind names the servers that do not have a generation of the keyring.
func behind(servers []presence, generation int64) (late []string) {
	for _, p := range servers {
		if p.Loaded < generation {
			late = append(late, p.String())
		}
	}
	return late
}

func describeLate(late []string) error {
	if len(late) == 0 {
		return errors.New("no server reports which keys of Secrets it has: servers of an older release cannot; update them first, and type the same command again")
	}
	return fmt.Errorf("these servers do not have the cluster's keys of Secrets: %s; nothing is lost, and the rotation waits: look at their logs, update servers of an older release, "+
		"and type the same command again", strings.Join(late, ", "))
}

// rewrite writes all Secrets that are not written with the key yet.
func (r *keyRotation) rewrite(ctx context.Context, key string) error {
	begin := time.Now()
	for range rewritePasses {
		left, err := r.store.secretsNotOf(ctx, key)
		if err != nil || len(left) == 0 {
			return err
		}
		if err := r.rewriteAll(ctx, left, begin); err != nil {
			return err
		}
	}
	return errors.New("some Secrets are still written with a key other than the one that all servers have: is a server of an older release still running? Update it, and type the same command again")
}

func (r *keyRotation) rewriteAll(ctx context.Context, names []types.NamespacedName, begin time.Time) error {
	errs := make([]error, len(names))
	told := time.Now()
	// In parts, to report the progress.
	for from := 0; from < len(names); from += secretsPage {
		part := names[from:min(from+secretsPage, len(names))]
		workqueue.ParallelizeUntil(ctx, rewriteWorkers, len(part), func(i int) {
			errs[from+i] = r.touch(ctx, part[i])
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Since(told) > showEvery {
			told = time.Now()
			r.progress(fmt.Sprintf("%d of %d Secrets written", from+len(part), len(names)), begin)
		}
	}
	return describeRefused(errs)
}

// toucher returns a function that makes the API server write a Secret as it is. The content of
// the Secret does not reach this process.
func toucher(secrets metadata.Getter) func(context.Context, types.NamespacedName) error {
	return func(ctx context.Context, name types.NamespacedName) error {
		_, err := secrets.Namespace(name.Namespace).Patch(ctx, name.Name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{FieldManager: fieldManager})
		if apierrors.IsNotFound(err) {
			return nil // it was deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
}

// describeRefused returns an error that names some of the Secrets that could not be written; nil if there are none.
func describeRefused(errs []error) error {
	const most = 5
	var some []error
	refused := 0
	for _, err := range errs {
		if err == nil {
			continue
		}
		if refused++; refused <= most {
			some = append(some, err)
		}
	}
	if refused == 0 {
		return nil
	}
	return fmt.Errorf("%d Secrets could not be rewritten, and the old key stays until they are: fix what refuses them (a webhook or a policy?), or delete them, and type the same command again: %w",
		refused, errors.Join(some...))
}

package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	certutil "k8s.io/client-go/util/cert"

	"everynode/internal/controlplane/pki"
	"everynode/internal/datadir"
)

const (
	// nodeTime is how long nodes may take to follow.
	nodeTime = 2 * time.Minute
	// lookAtNodes is how often they are read meanwhile: all of them, from etcd.
	lookAtNodes = 5 * time.Second
	// rereadTime is how long after a change an API server may still verify kubelets with former
	// authorities: it reads kubelets' authorities every five minutes, and no flag changes that.
	rereadTime = 5*time.Minute + 5*time.Second
	// settleTime is how long after a change of the CA that signs, servers can still have
	// connections that were made with former certificates.
	settleTime = 3 * reconnectEvery
)

// CARotation is one step of a rotation of the CA.
type CARotation struct {
	// Do is one of the constants below.
	Do string
	// LeaveLate lets CAFinish and CAUndo proceed although nodes that are away have not followed: these
	// nodes then have to join again.
	LeaveLate bool
}

// The steps of CARotation.Do. Each can be repeated.
const (
	CAPrepare = "prepare" // a new CA is made, and trusted beside the old one
	CASwitch  = "switch"  // the new one signs
	CAFinish  = "finish"  // the old one is no longer trusted, and its key is deleted
	CAUndo    = "undo"    // the old one signs, and the new one is no longer trusted
)

// caRotation changes the CA in steps that are recorded in etcd. All servers, and the nodes,
// follow a step before the next one begins.
type caRotation struct {
	*settings
	store     *sharedStore
	local     *pki.Authority // the CA that signs, as this data directory has it
	leaveLate bool
	// These are the constants, except in tests.
	loadTime, nodeTime, rereadTime, settleTime time.Duration
}

// RotateCA does one step on a running cluster. cfg has the data directory of any of its
// servers, and EtcdServers if its servers have them.
func RotateCA(ctx context.Context, cfg Config, step CARotation) (*Authorities, error) {
	r, done, err := openCARotation(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.leaveLate = step.LeaveLate
	if err = r.check(); err == nil {
		err = r.do(ctx, step.Do)
	}
	if err == nil {
		var state *Authorities
		if state, err = r.state(ctx); err == nil {
			return state, done()
		}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: nothing is lost; the same command continues: %w", ctx.Err())
	}
	return nil, errors.Join(err, done())
}

func openCARotation(ctx context.Context, cfg Config) (r *caRotation, done func() error, err error) {
	s, err := cfg.resolve()
	if err != nil {
		return nil, nil, err
	}
	r = &caRotation{settings: s, loadTime: loadTime, nodeTime: nodeTime, rereadTime: rereadTime, settleTime: settleTime}
	if r.local, err = pki.Load(pki.Paths(s.path("pki"), pki.ClusterCA)); err != nil {
		return nil, nil, fmt.Errorf("read the cluster's CA: %w; run this as the server's user, on a server of the cluster, with its --data-dir", err)
	}
	r.store, done, err = s.runningEtcd().open(ctx)
	return r, done, err
}

// check refuses what cannot be rotated here.
func (r *caRotation) check() error {
	if dir, err := datadir.Find(r.DataDir); err == nil && dir.Kind() == datadir.Up {
		return fmt.Errorf("%s is a cluster of `everynode up`, whose CA is not rotated: make a new cluster", r.DataDir)
	}
	return r.data().checkSecrets()
}

func (r *caRotation) do(ctx context.Context, step string) error {
	record, err := r.current(ctx)
	if err != nil {
		return err
	}
	switch step {
	case CAPrepare:
		return r.prepare(ctx, record)
	case CASwitch:
		return r.swap(ctx, record)
	case CAFinish:
		return r.finish(ctx, record)
	case CAUndo:
		return r.undo(ctx, record)
	}
	return fmt.Errorf("there is no step %q of a rotation of the CA", step)
}

// current returns the cluster's record. If there is none, it returns one with the cluster's only CA.
func (r *caRotation) current(ctx context.Context) (authorityRecord, error) {
	record, err := r.store.authorities(ctx)
	if err != nil || record.revision > 0 {
		return record, err
	}
	cert, err := certutil.EncodeCertificates(r.local.Cert)
	if err != nil {
		return record, fmt.Errorf("encode the cluster's CA: %w", err)
	}
	record.Authorities = []sealedAuthority{{ID: r.local.ID(), Cert: cert}}
	return record, nil
}

func (r *caRotation) prepare(ctx context.Context, record authorityRecord) error {
	if record.step() == CASwitched {
		return errors.New("the new CA is already signing: continue with `everynode server rotate ca finish`, or go back with `everynode server rotate ca undo`")
	}
	if record.underWay() {
		record, err := r.resume(ctx, record)
		if err != nil {
			return err
		}
		return r.waitServers(ctx, record, "both CAs trusted by")
	}
	// Before anything changes: no server may have an older release, or be behind.
	if err := r.waitServers(ctx, record, "found, with the cluster's CA:"); err != nil {
		return err
	}
	ring, err := r.keyring(ctx)
	if err != nil {
		return err
	}
	if r.local.ID() != record.signs() {
		return fmt.Errorf("the CA in %s is not the one that signs (%s): is this server running? Start it, or type the same command on another server", r.path("pki"), record.signs())
	}
	next, fresh, err := record.begun(r.local, time.Now())
	if err != nil {
		return err
	}
	mine, err := newKeySealer(r.local)
	if err != nil {
		return err
	}
	theirs, err := newKeySealer(fresh)
	if err != nil {
		return err
	}
	sealed, err := mine.alsoFor(ring, theirs)
	if err != nil {
		return err
	}
	return r.change(ctx, next, "both CAs trusted by", change{keyringKey, sealed, ring.revision})
}

// keyring returns the keyring of the cluster. A cluster that has none gets one: the key of
// Secrets that is derived from the CA must outlive the CA.
func (r *caRotation) keyring(ctx context.Context) (keyring, error) {
	ring, err := r.store.keyring(ctx)
	if err != nil {
		return ring, err
	}
	if ring.Next != "" {
		return ring, errors.New("the key of Secrets is being rotated: finish that first, with `everynode server rotate secrets-key`")
	}
	if ring.revision == 0 {
		sealer, err := newKeySealer(r.local)
		if err != nil {
			return ring, err
		}
		first := keyring{Generation: 1, Keys: []sealedKey{sealer.seal(sealer.first, time.Time{})}}
		if _, err := r.store.replaceKeyring(ctx, first); err != nil {
			return ring, fmt.Errorf("write the keys of Secrets: %w", err)
		}
		if ring, err = r.store.keyring(ctx); err != nil {
			return ring, err
		}
	}
	keys := &keyRotation{settings: r.settings, store: r.store, loadTime: r.loadTime}
	return ring, keys.waitLoaded(ctx, ring, "key of Secrets kept by")
}

// change writes the record, with what belongs to it, and waits for the servers.
func (r *caRotation) change(ctx context.Context, next authorityRecord, what string, with ...change) error {
	if err := r.write(ctx, next, with...); err != nil {
		return err
	}
	return r.waitServers(ctx, next, what)
}

// write writes the record, with what belongs to it.
func (r *caRotation) write(ctx context.Context, next authorityRecord, with ...change) error {
	done, err := r.store.commit(ctx, append(with, change{authoritiesKey, next, next.revision})...)
	if err != nil {
		return fmt.Errorf("write which CAs the cluster trusts: %w", err)
	}
	if !done {
		return errors.New("somebody else has changed the CA or the keys at the same moment: check with `everynode server rotate status`, and type the command again if it is still needed")
	}
	return nil
}

// swap makes the other CA sign, once everybody trusts both.
func (r *caRotation) swap(ctx context.Context, record authorityRecord) error {
	switch record.step() {
	case CASteady:
		return errors.New("there is no new CA to switch to: make one with `everynode server rotate ca prepare`")
	case CASwitched:
		return r.waitServers(ctx, record, "certificates of the new CA on")
	}
	record, err := r.resume(ctx, record)
	if err != nil {
		return err
	}
	if err := r.waitAll(ctx, record, "both CAs trusted by", hasAll(record.ids()), true); err != nil {
		return err
	}
	if err := r.waitSince(ctx, record.Changed, r.rereadTime, "kubelets of both known to API servers"); err != nil {
		return err
	}
	return r.exchange(ctx, record.swapped(time.Now()), "certificates of the new CA on")
}

// resume returns the record of a rotation that goes on, even if somebody had begun to undo it.
func (r *caRotation) resume(ctx context.Context, record authorityRecord) (authorityRecord, error) {
	if !record.Undo {
		return record, nil
	}
	record.Undo = false
	if err := r.write(ctx, record); err != nil {
		return record, err
	}
	return r.current(ctx)
}

// exchange writes a record with the other of two CAs as the one that signs, and also records that where
// servers compare their keys.
func (r *caRotation) exchange(ctx context.Context, next authorityRecord, what string) error {
	var with []change
	if !r.embeddedStore {
		shared, revision, err := r.store.record(ctx)
		if err != nil {
			return err
		}
		if shared != nil {
			block, _ := pem.Decode(next.Authorities[0].Cert)
			sum := sha256.Sum256(block.Bytes)
			shared.Keys = maps.Clone(shared.Keys)
			shared.Keys[sharedPairs()[0].what] = hex.EncodeToString(sum[:])
			with = append(with, change{recordKey, shared, revision})
		}
	}
	return r.change(ctx, next, what, with...)
}

func (r *caRotation) finish(ctx context.Context, record authorityRecord) error {
	switch {
	case record.revision == 0:
		return errors.New("there is no rotation of the CA to finish: begin one with `everynode server rotate ca prepare`")
	case record.step() == CAPrepared:
		return errors.New("the old CA is still signing: continue with `everynode server rotate ca switch`, or go back with `everynode server rotate ca undo`")
	case record.step() == CASteady:
		return r.waitServers(ctx, record, "one CA on")
	}
	return r.drop(ctx, record, isOf(record.signs()))
}

// drop makes the CA that signs the only trusted one, once nodes have the certificates that they should.
func (r *caRotation) drop(ctx context.Context, record authorityRecord, should func(has []string) bool) error {
	if err := r.waitAll(ctx, record, "certificates of "+record.signs()+" on", should, r.leaveLate); err != nil {
		return err
	}
	if err := r.waitSince(ctx, record.Changed, r.settleTime, "earlier connections have ended"); err != nil {
		return err
	}
	next, err := record.alone(time.Now())
	if err != nil {
		return err
	}
	ring, err := r.store.keyring(ctx)
	if err != nil {
		return err
	}
	return r.change(ctx, next, "one CA on", change{keyringKey, ring.onlyFor(next.signs()), ring.revision})
}

// waitSince returns when d has passed since a change.
func (r *caRotation) waitSince(ctx context.Context, changed time.Time, d time.Duration, what string) error {
	left := min(d-time.Since(changed), d) // the clock may have been ahead
	if left <= 0 {
		return nil
	}
	begin := time.Now()
	if left > showEvery {
		r.progress(fmt.Sprintf("waiting for %s more, until %s", left.Round(time.Second), what), begin)
	}
	if err := pause(ctx, left); err != nil {
		return err
	}
	r.progress(what, begin)
	return nil
}

// undo goes back to the old CA, from either step. Servers have to accept only that one.
func (r *caRotation) undo(ctx context.Context, record authorityRecord) error {
	if record.step() == CASteady {
		return errors.New("there is no rotation of the CA to undo: a finished rotation cannot be undone")
	}
	if switched := record.step() == CASwitched; switched || !record.Undo {
		if switched {
			record = record.swapped(time.Now())
		}
		record.Undo = true
		err := r.exchange(ctx, record, "certificates of the old CA on")
		if err == nil {
			record, err = r.current(ctx)
		}
		if err != nil {
			return err
		}
	}
	return r.drop(ctx, record, isNotOf(record.Next))
}

// waitAll returns when all servers have followed, and should is true for the authorities of all
// nodes. It does not wait for revoked nodes or, with leaveAway, for nodes that are away.
func (r *caRotation) waitAll(ctx context.Context, record authorityRecord, what string, should func(has []string) bool, leaveAway bool) error {
	if err := r.waitServers(ctx, record, what); err != nil {
		return err
	}
	begin, told := time.Now(), time.Now()
	for {
		count, late, err := r.store.lateNodes(ctx, should)
		if err != nil {
			return err
		}
		blocking := slices.DeleteFunc(slices.Clone(late), func(n LateNode) bool {
			return n.State == NodeRevoked || leaveAway && n.State == NodeAway
		})
		switch {
		case len(blocking) == 0:
			r.progress(fmt.Sprintf("%s %d node(s)", what, count-len(late)), begin)
			return nil
		case time.Since(begin) > r.nodeTime, !slices.ContainsFunc(blocking, func(n LateNode) bool { return n.State == NodeLate }):
			return describeLateNodes(blocking)
		case time.Since(told) > showEvery:
			told = time.Now()
			r.progress("waiting for "+nameNodes(blocking), begin)
		}
		if err := pause(ctx, min(lookAtNodes, r.nodeTime/8)); err != nil {
			return err
		}
	}
}

// nameNodes names up to ten of the nodes.
func nameNodes(nodes []LateNode) string {
	const most = 10
	var names []string
	for _, n := range nodes[:min(most, len(nodes))] {
		names = append(names, n.Name)
	}
	if more := len(nodes) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

func describeLateNodes(blocking []LateNode) error {
	var late, away []LateNode
	for _, n := range blocking {
		if n.State == NodeAway {
			away = append(away, n)
		} else {
			late = append(late, n)
		}
	}
	var why []string
	if len(late) > 0 {
		why = append(why, fmt.Sprintf("these nodes are Ready but have not followed: %s: update their agents if they have an older release, look at their logs, or run `everynode node revoke NAME` for nodes that should not be trusted", nameNodes(late)))
	}
	if len(away) > 0 {
		why = append(why, fmt.Sprintf("these nodes are not Ready, and would have to join again: %s: bring them back first, delete those that are gone, or add --leave-late "+
			"(then, for each: `everynode token create --node NAME` on a server, and on the machine `everynode agent` with that token and --rejoin)", nameNodes(away)))
	}
	return fmt.Errorf("the step is not done: %s; then type the same command again", strings.Join(why, "; "))
}

// waitServers returns when all running servers trust what a record says.
func (r *caRotation) waitServers(ctx context.Context, record authorityRecord, what string) error {
	begin, told := time.Now(), time.Now()
	for {
		servers, err := r.store.presences(ctx)
		if err != nil {
			return err
		}
		var late []string
		for _, p := range servers {
			if !slices.Equal(p.Trusts, record.reports()) {
				late = append(late, p.String())
			}
		}
		switch {
		case len(servers) > 0 && len(late) == 0:
			r.progress(fmt.Sprintf("%s %d server(s)", what, len(servers)), begin)
			return nil
		case time.Since(begin) > r.loadTime && len(late) == 0:
			return errors.New("no server reports which CAs it trusts: servers of an older release cannot; update them first, and type the same command again")
		case time.Since(begin) > r.loadTime:
			return fmt.Errorf("these servers have not followed: %s; nothing is lost, and the rotation waits: look at their logs, update servers of an older release, "+
				"and type the same command again", strings.Join(late, ", "))
		case time.Since(told) > showEvery:
			told = time.Now()
			r.progress("waiting for "+strings.Join(late, ", "), begin)
		}
		if err := pause(ctx, followEvery/4); err != nil {
			return err
		}
	}
}

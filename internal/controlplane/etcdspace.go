package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"k8s.io/klog/v2"
)

// When its database reaches the quota, etcd raises an alarm and refuses all that it would have to write, leases of
// nodes included. Deleting objects does not end that, nor does a restart: somebody has to compact and defragment the
// database, and disarm the alarm. Nobody but this process reaches the embedded etcd, so the store does it.

const (
	// storeQuota is the size of the database, in bytes, at which etcd refuses writes.
	storeQuota = 8 << 30
	// mindSpaceEvery is how often the store looks at its database, and tellSpaceEvery how often it says the same.
	mindSpaceEvery = time.Minute
	tellSpaceEvery = time.Hour
)

// nearlyFull, in percent of the quota, is when people are told.
const nearlyFull = 80

// limit is the quota that etcd gets at a start. A full database may grow a little further: without a lease no server
// starts, and without a server nobody can delete objects.
func (s *store) limit() int64 {
	size := fileSize(datadir.ToBackendFileName(s.dataDir()))
	if size < s.quota-s.reserve() {
		return s.quota
	}
	return size + s.reserve()
}

func (s *store) reserve() int64 { return s.quota / 16 }

func (s *store) dataDir() string { return filepath.Join(s.dir, "data") }

// watchSpace looks at the database until ctx ends.
func (s *store) watchSpace(ctx context.Context) error {
	tick := time.NewTicker(mindSpaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.tellSpace(ctx, now)
		}
	}
}

func (s *store) tellSpace(ctx context.Context, now time.Time) {
	if text := s.mindSpace(ctx, now); text != "" {
		klog.Warning(text)
	}
}

// mindSpace makes a full database accept writes again, if it can. It returns what people should know; "": nothing new.
func (s *store) mindSpace(ctx context.Context, now time.Time) string {
	said, ended := s.endAlarms(ctx)
	used := s.etcd.Server.Backend().SizeInUse()
	if percent := used * 100 / s.quota; percent >= nearlyFull {
		said = append(said, fmt.Sprintf("etcd's database uses %s, which is %d %% of its quota of %s; when it is full, etcd refuses all writes. "+
			"Delete what is not needed; `kubectl get --raw /metrics | grep ^apiserver_resource_objects` shows of what there is most.",
			megabytes(used), percent, megabytes(s.quota)))
	}
	full := len(s.fullAlarms()) > 0
	if len(said) == 0 || !ended && full == s.toldFull && now.Sub(s.told) < tellSpaceEvery {
		return ""
	}
	s.told, s.toldFull = now, full
	return strings.Join(said, " ")
}

// endAlarms makes room if etcd refuses writes. ended: it does not refuse them any more.
func (s *store) endAlarms(ctx context.Context) (said []string, ended bool) {
	alarms := s.fullAlarms()
	if len(alarms) == 0 {
		return nil, false
	}
	before := s.etcd.Server.Backend().Size()
	if err := s.makeRoom(ctx, alarms); err != nil {
		return []string{fmt.Sprintf("etcd's database has reached its quota of %s, and etcd refuses writes: %v. Deleting objects is not refused, "+
			"and everynode tries again every minute. If deletions are refused as well, restart the server: a full database may then grow by another %s.",
			megabytes(s.granted), err, megabytes(s.reserve()))}, false
	}
	return []string{fmt.Sprintf("etcd's database had reached its quota of %s, and etcd refused writes. "+
		"It was compacted and defragmented, from %s to %s, and etcd accepts writes again.",
		megabytes(s.granted), megabytes(before), megabytes(s.etcd.Server.Backend().Size()))}, true
}

// fullAlarms returns the alarms because of which etcd refuses writes.
func (s *store) fullAlarms() (full []*etcdserverpb.AlarmMember) {
	for _, a := range s.etcd.Server.Alarms() {
		if a.GetAlarm() == etcdserverpb.AlarmType_NOSPACE {
			full = append(full, a)
		}
	}
	return full
}

// makeRoom compacts and defragments the database, and disarms alarms if it is small enough then.
func (s *store) makeRoom(ctx context.Context, alarms []*etcdserverpb.AlarmMember) error {
	server := s.etcd.Server
	// A compaction up to the present needs no room. Watches that have missed something are told to list again.
	_, err := server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: server.KV().Rev(), Physical: true})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		return fmt.Errorf("compacting it failed: %w", err)
	}
	// With more it would be full again at once, and nobody gets an answer while it is defragmented.
	enough := s.granted - s.granted/32
	if used := server.Backend().SizeInUse(); used > enough {
		return fmt.Errorf("%s of it are in use", megabytes(used))
	}
	if err := checkSpace(s.dataDir(), server.Backend().SizeInUse()+smallFiles, "a smaller copy of the database"); err != nil {
		return err
	}
	if err := server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragmenting it failed: %w", err)
	}
	if size := server.Backend().Size(); size > enough {
		return fmt.Errorf("%s of it are in use", megabytes(size))
	}
	for _, a := range alarms {
		disarm := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_DEACTIVATE, Alarm: a.GetAlarm(), MemberID: a.GetMemberID()}
		if _, err := server.Alarm(ctx, disarm); err != nil {
			return fmt.Errorf("ending the alarm failed: %w", err)
		}
	}
	return nil
}

package controlplane

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
)

const (
	// snapshotStamp is the time in a snapshot's name, in UTC.
	snapshotStamp  = "20060102T150405Z"
	snapshotSuffix = ".tar"
	sealedSuffix   = ".age"
	// clockAhead is how far in the future the time in a snapshot's name may be.
	clockAhead = time.Hour
)

// snapshotNames makes and reads the names that a machine gives to snapshots of a cluster without a
// name: everynode-MACHINE-CLUSTER-TIME.tar, or .tar.age if they are sealed. Snapshots of another
// cluster, and files of earlier releases, which did not name the cluster, are not ours.
type snapshotNames struct{ host, cluster string }

// names returns this machine's, for the cluster that is in etcd now. Its keys do not tell: an etcd
// that was lost may have been replaced by an empty one beside the same keys.
func (r runningEtcd) names(ctx context.Context) (n snapshotNames, err error) {
	if n.host, err = thisMachine(); err != nil {
		return n, err
	}
	store, done, err := r.open(ctx)
	if err != nil {
		return n, err
	}
	n.cluster, err = store.clusterID(ctx)
	return n, errors.Join(err, done())
}

// clusterID returns the first part of the UID of the namespace kube-system. It is as old as the
// cluster, and stays when a snapshot is restored and when keys and CAs are rotated.
func (c *sharedStore) clusterID(ctx context.Context) (string, error) {
	var got *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		got, err = c.client.Get(ctx, "/registry/namespaces/"+metav1.NamespaceSystem)
		return err
	})
	if err != nil {
		return "", err
	}
	if len(got.Kvs) == 0 {
		return "", errors.New("etcd has no namespace kube-system, whose UID tells clusters apart in the names of snapshots: start the server, which creates it")
	}
	namespace := &corev1.Namespace{}
	if err := runtime.DecodeInto(scheme.Codecs.UniversalDeserializer(), got.Kvs[0].Value, namespace); err != nil {
		return "", fmt.Errorf("read %s in etcd: %w", got.Kvs[0].Key, err)
	}
	id, _, _ := strings.Cut(string(namespace.UID), "-")
	if _, err := hex.DecodeString(id); err != nil || id == "" {
		return "", fmt.Errorf("the UID of the namespace kube-system is %q, which no API server has made: it cannot be in the names of snapshots", namespace.UID)
	}
	return id, nil
}

func (n snapshotNames) prefix() string { return "everynode-" + n.host + "-" + n.cluster + "-" }

func (n snapshotNames) at(now time.Time, sealed bool) string {
	name := n.prefix() + now.UTC().Format(snapshotStamp) + snapshotSuffix
	if sealed {
		name += sealedSuffix
	}
	return name
}

// time reads the time in a name. ours: the name is one that this machine gives.
func (n snapshotNames) time(name string) (at time.Time, ours bool) {
	stamp, ours := strings.CutPrefix(withoutSuffix(name), n.prefix())
	at, err := time.Parse(snapshotStamp, stamp)
	return at, ours && err == nil
}

// thisMachine returns the name of this machine in the names of its snapshots.
func thisMachine() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the name of this machine, for the names of snapshots: %w", err)
	}
	return host, nil
}

// clearLeft removes the unsealed database and the archive that a killed process has left in a folder of snapshots while it
// made one with a name of this machine, of whatever cluster.
func clearLeft(dir, host string) {
	err := removeLeft(dir, func(name string) bool {
		rest, ours := strings.CutPrefix(withoutSuffix(name), "everynode-"+host+"-")
		_, stamp, named := strings.Cut(rest, "-")
		_, err := time.Parse(snapshotStamp, stamp)
		return ours && named && err == nil && looksLikeSnapshot(name)
	})
	if err != nil {
		klog.ErrorS(err, "Cannot remove what an interrupted snapshot has left, which has every Secret of the cluster", "dir", dir)
	}
}

// savedFile is a snapshot that a machine has named.
type savedFile struct {
	name string
	time time.Time
}

// ours returns those of names that this machine has given to snapshots of this cluster, oldest
// first. It leaves out those from the future: the clock was ahead, so nobody knows how old they are.
func (n snapshotNames) ours(names []string, now time.Time) (mine []savedFile, ahead []string) {
	for _, name := range names {
		at, ours := n.time(name)
		switch {
		case !ours:
		case at.After(now.Add(clockAhead)):
			ahead = append(ahead, name)
		default:
			mine = append(mine, savedFile{name, at})
		}
	}
	slices.SortFunc(mine, func(a, b savedFile) int {
		return cmp.Or(a.time.Compare(b.time), strings.Compare(a.name, b.name))
	})
	return mine, ahead
}

// newest splits what ours returned into the newest keep (0: all) and the rest. fresh, which was
// saved last, is always one of the newest: the clock may have been ahead when others were saved.
func newest(mine []savedFile, keep int, fresh string) (stay, rest []savedFile) {
	if keep == 0 {
		return mine, nil
	}
	last := slices.IndexFunc(mine, func(f savedFile) bool { return f.name == fresh })
	if last >= 0 {
		mine = append(slices.Delete(slices.Clone(mine), last, last+1), mine[last])
	}
	n := max(len(mine)-keep, 0)
	return mine[n:], mine[:n]
}

// aheadLog logs once that snapshots are from the future.
type aheadLog struct{ once sync.Once }

func (l *aheadLog) note(where string, names []string) {
	if len(names) == 0 {
		return
	}
	l.once.Do(func() {
		klog.Warningf("In %s are %d snapshots whose names are in the future (%s): the clock of this machine is wrong, or was. "+
			"They are not counted, and stay until their time has come", where, len(names), slices.Min(names))
	})
}

func withoutSuffix(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, sealedSuffix), snapshotSuffix)
}

// looksLikeSnapshot reports whether a name is a snapshot's, and not a folder's.
func looksLikeSnapshot(name string) bool { return withoutSuffix(name) != name }

package controlplane

import (
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

const (
	// snapshotStamp is the time in a snapshot's name, in UTC.
	snapshotStamp  = "20060102T150405Z"
	snapshotSuffix = ".tar"
	sealedSuffix   = ".age"
)

// snapshotNames makes and reads the names that a machine gives to snapshots without a
// name: everynode-MACHINE-TIME.tar, or .tar.age if they are sealed.
type snapshotNames struct{ host string }

// namesHere returns this machine's.
func namesHere() (snapshotNames, error) {
	host, err := os.Hostname()
	if err != nil {
		return snapshotNames{}, fmt.Errorf("read the name of this machine, for the names of snapshots: %w", err)
	}
	return snapshotNames{host}, nil
}

func (n snapshotNames) prefix() string { return "everynode-" + n.host + "-" }

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

// clear removes the unsealed database and the archive that a killed process has left in a folder of snapshots while it
// made one with a name of this machine.
func (n snapshotNames) clear(dir string) {
	err := removeLeft(dir, func(name string) bool {
		_, ours := n.time(name)
		return ours && looksLikeSnapshot(name)
	})
	if err != nil {
		klog.ErrorS(err, "Cannot remove what an interrupted snapshot has left, which has every Secret of the cluster", "dir", dir)
	}
}

func withoutSuffix(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, sealedSuffix), snapshotSuffix)
}

// looksLikeSnapshot reports whether a name is a snapshot's, and not a folder's.
func looksLikeSnapshot(name string) bool { return withoutSuffix(name) != name }

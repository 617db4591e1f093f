package localcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// rootDataDir is the data directory of root's cluster by default.
const rootDataDir = "/var/lib/everynode"

// defaultDataDir is the data directory of the caller's cluster unless --data-dir or
// EVERYNODE_DATA_DIR says otherwise. An ordinary user's is among the user's own
// data.
func defaultDataDir(uid int, getenv func(string) string) string {
	if uid == 0 {
		return rootDataDir
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "everynode")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "everynode")
	}
	return rootDataDir
}

// DataDirFromEnv is the data directory that a command uses when no flag names one.
func DataDirFromEnv() string {
	if dir := os.Getenv("EVERYNODE_DATA_DIR"); dir != "" {
		return dir
	}
	return defaultDataDir(os.Geteuid(), os.Getenv)
}

// noCluster is the error for a data directory without a cluster.
func noCluster(dataDir string) error {
	text := fmt.Sprintf("no cluster in %s: start one with `everynode up`, or name another with --data-dir", dataDir)
	if other, err := os.Stat(rootDataDir); err == nil && os.Geteuid() != 0 && dataDir != rootDataDir && uidOf(other) == 0 {
		text += "; root has one in " + rootDataDir + ", for which everynode must run as root (sudo)"
	}
	return errors.New(text)
}

// Unreadable explains why something in a data directory cannot be read: most often
// it belongs to another user.
func Unreadable(dataDir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noCluster(dataDir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to %s, and so does the cluster in it: run this as that user (sudo), or name a folder of your own with --data-dir", dataDir, ownerOf(dataDir))
	default:
		return fmt.Errorf("read the cluster's files: %w", err)
	}
}

// ownerOf names the user that a folder belongs to.
func ownerOf(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		return "another user"
	}
	uid := strconv.Itoa(uidOf(info))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "user " + uid
}

// uidOf is the user that owns a file; -1 where that is not known.
func uidOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// IsServerFolder reports whether the folder is one of `everynode server`, or was
// filled by a restore: it has keys and no record of a cluster of this machine.
func IsServerFolder(dataDir string) bool {
	if _, err := local.Open(dataDir); !errors.Is(err, local.ErrNoCluster) {
		return false
	}
	_, err := os.Stat(filepath.Join(dataDir, "pki"))
	return err == nil
}

// NotOfUp returns an error for the folder of a cluster of `everynode up`, which must not become the folder of a server
// that machines join: `everynode down --purge` would delete it.
func NotOfUp(dataDir string) error {
	switch _, err := local.Open(dataDir); {
	case errors.Is(err, local.ErrNoCluster):
		return nil
	case err != nil:
		return fmt.Errorf("whether %s is the folder of a cluster of `everynode up` is not known: %w", dataDir, err)
	}
	return fmt.Errorf("%s is the folder of a cluster of `everynode up`, and `everynode down --purge` would delete what a server keeps there: start that cluster with `everynode up%s`, or give the server a folder of its own with --data-dir",
		dataDir, whichCluster(dataDir))
}

// ServerLock is the lock file that the control plane in a data directory holds while
// it runs.
func ServerLock(dataDir string) string { return filepath.Join(dataDir, "server.lock") }

// Stopped returns the error for a cluster that does not run, or nil if it runs or if
// that is not known. It asks only the lock: any other program may answer at the
// address of a stopped cluster.
func Stopped(dataDir string) error {
	if !datadir.Stopped(ServerLock(dataDir)) {
		return nil
	}
	if IsServerFolder(dataDir) {
		return fmt.Errorf("the server of %s does not run: start it with `everynode server --data-dir %s`", dataDir, dataDir)
	}
	return fmt.Errorf("the cluster in %s is stopped: start it with `everynode up%s`", dataDir, whichCluster(dataDir))
}

// DefaultName is the name of the cluster in the default data directory.
const DefaultName = "everynode"

// NamedDir is the data directory of a cluster with a name.
func NamedDir(name string) string {
	base := defaultDataDir(os.Geteuid(), os.Getenv)
	if name == DefaultName {
		return base
	}
	return filepath.Join(base+"-clusters", name)
}

// NameOf is the name of the cluster in a data directory; "" if it has none.
func NameOf(dataDir string) string {
	for _, name := range []string{DefaultName, filepath.Base(dataDir)} {
		if filepath.Clean(dataDir) == NamedDir(name) {
			return name
		}
	}
	return ""
}

// whichCluster is the flag that makes a command use the cluster in the data
// directory; "" if the command needs no flag for that.
func whichCluster(dataDir string) string {
	name := NameOf(dataDir)
	switch {
	case filepath.Clean(dataDir) == filepath.Clean(DataDirFromEnv()):
		return ""
	case name != "":
		return " --name " + name
	default:
		return " --data-dir " + dataDir
	}
}

// ContextName is the name of a cluster's context in kubeconfigs. If the cluster has
// no name, it is made from its id.
func ContextName(dataDir, id string) string {
	switch name := NameOf(dataDir); name {
	case DefaultName:
		return DefaultName
	case "":
		return DefaultName + "-" + id
	default:
		return DefaultName + "-" + name
	}
}

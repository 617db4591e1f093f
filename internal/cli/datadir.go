package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"k8s.io/apimachinery/pkg/util/validation"

	"everynode/internal/datadir"
	"everynode/internal/local"
)

// rootDataDir is where root's cluster lives unless told otherwise.
const rootDataDir = "/var/lib/everynode"

// defaultDataDir is where the caller's cluster lives unless --data-dir or
// EVERYNODE_DATA_DIR says otherwise: that of an ordinary user is among the user's
// own data.
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

func dataDirFromEnv() string {
	if dir := os.Getenv("EVERYNODE_DATA_DIR"); dir != "" {
		return dir
	}
	return defaultDataDir(os.Geteuid(), os.Getenv)
}

// noCluster is the error of a data directory without a cluster.
func noCluster(dataDir string) error {
	text := fmt.Sprintf("no cluster in %s: start one with `everynode up`, or name another with --data-dir", dataDir)
	if other, err := os.Stat(rootDataDir); err == nil && os.Geteuid() != 0 && dataDir != rootDataDir && uidOf(other) == 0 {
		text += "; root has one in " + rootDataDir + ", for which everynode must run as root (sudo)"
	}
	return errors.New(text)
}

// unreadable explains why something in a data directory cannot be read: most
// often it is another user's.
func unreadable(dataDir string, err error) error {
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

// uidOf is the user that a file belongs to; -1 where that is not known.
func uidOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// isServerFolder says that the folder is one of `everynode server`, or was filled by
// a restore: it has keys and no record of a cluster of this machine.
func isServerFolder(dataDir string) bool {
	if _, err := local.Open(dataDir); !errors.Is(err, local.ErrNoCluster) {
		return false
	}
	_, err := os.Stat(filepath.Join(dataDir, "pki"))
	return err == nil
}

func serverLockOf(dataDir string) string { return filepath.Join(dataDir, "server.lock") }

// stopped is the error of a cluster that does not run; nil when it runs, or when it
// cannot be told. Nobody else may be asked: what answers at the address of a cluster
// that is stopped may be anything.
func stopped(dataDir string) error {
	if !datadir.Stopped(serverLockOf(dataDir)) {
		return nil
	}
	if isServerFolder(dataDir) {
		return fmt.Errorf("the server of %s does not run: start it with `everynode server --data-dir %s`", dataDir, dataDir)
	}
	return fmt.Errorf("the cluster in %s is stopped: start it with `everynode up%s`", dataDir, whichCluster(dataDir))
}

// gidOf is the group that a file belongs to; -1 where that is not known.
func gidOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}

// defaultName is the name of the cluster that has none.
const defaultName = "everynode"

// namedDir is the data directory of a cluster with a name.
func namedDir(name string) string {
	base := defaultDataDir(os.Geteuid(), os.Getenv)
	if name == defaultName {
		return base
	}
	return filepath.Join(base+"-clusters", name)
}

// nameOf is the name of the cluster in a data directory; empty when it has none.
func nameOf(dataDir string) string {
	for _, name := range []string{defaultName, filepath.Base(dataDir)} {
		if filepath.Clean(dataDir) == namedDir(name) {
			return name
		}
	}
	return ""
}

// whichCluster is the flag with which a command means the cluster in the data
// directory; empty when it does so without.
func whichCluster(dataDir string) string {
	name := nameOf(dataDir)
	switch {
	case filepath.Clean(dataDir) == filepath.Clean(dataDirFromEnv()):
		return ""
	case name != "":
		return " --name " + name
	default:
		return " --data-dir " + dataDir
	}
}

// contextName is the name of a cluster's context in kubeconfigs. That of a cluster
// without a name is made from its id.
func (m *machine) contextName(dataDir string) string {
	switch name := nameOf(dataDir); name {
	case defaultName:
		return defaultName
	case "":
		return defaultName + "-" + m.ID
	default:
		return defaultName + "-" + name
	}
}

// clusterName is the value of --name, which names a data directory.
type clusterName struct {
	name    string
	dataDir *string
}

func (n *clusterName) String() string { return n.name }

// Set takes what the user typed after --name.
func (n *clusterName) Set(name string) error {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return fmt.Errorf("give at most %d lower case letters, digits and hyphens, with a letter or digit first and last", validation.DNS1123LabelMaxLength)
	}
	n.name, *n.dataDir = name, namedDir(name)
	return nil
}

// Type is what --help shows for the value.
func (n *clusterName) Type() string { return "string" }

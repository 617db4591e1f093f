package node

import (
	"fmt"
	"io/fs"
	"os"
)

// volumesDir is where the add-on storage keeps volumes, which are for whatever user their
// pods have.
const volumesDir = "/opt/local-path-provisioner"

// openVolumes says that the machine's own users get into the volumes; "" if they do not. The
// add-on shuts their folder when it next makes or deletes one. Until then it may be
// another tool's, and is left as it is.
func openVolumes(dir string) string {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o007 == 0 {
		return ""
	}
	if volumes, err := fs.Glob(os.DirFS(dir), "pvc-*"); err != nil || len(volumes) == 0 {
		return ""
	}
	return fmt.Sprintf("every user of this machine can read and write volumes in %s: chmod 0700 %s", dir, dir)
}

package node

import (
	"fmt"
	"io/fs"
	"os"
)

// volumesDir is where the storage add-on keeps volumes. Any user may read and write in one,
// because its pod may run as any user.
const volumesDir = "/opt/local-path-provisioner"

// openVolumes returns a warning that users of this machine can get into the volumes; "" if
// they cannot. The add-on closes their folder when it next makes or deletes a volume. Until
// then the folder may belong to another tool, so the agent does not change it.
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

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// nobody is the user without rights.
const nobody = 65534

// ordinaryUser gives the script's data directory to nobody, and makes the program as-user, which runs a command as nobody,
// with a home and an everynode that nobody can reach.
func ordinaryUser(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ordinary-user")
	}
	c := clusterOf(ts)
	dir, err := os.MkdirTemp("", "evuser")
	ts.Check(err)
	ts.Defer(func() {
		if err := os.RemoveAll(dir); err != nil {
			c.t.Errorf("delete the ordinary user's folder: %v", err)
		}
	})
	home, bin := filepath.Join(dir, "home"), filepath.Join(dir, "bin")
	ts.Check(errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), os.Mkdir(bin, 0o755), os.Chown(home, nobody, nobody)))
	ts.Check(os.Chown(c.dataDir, nobody, nobody))
	ts.Check(linkOrCopy(c.everynode, filepath.Join(bin, "everynode")))
	text := fmt.Sprintf("#!/bin/sh\ncd /\nexec setpriv --reuid=%d --regid=%d --clear-groups env -u XDG_STATE_HOME HOME='%s' PATH='%s':/usr/bin:/bin \"$@\"\n", nobody, nobody, home, bin)
	asUser := filepath.Join(c.workDir, ".tools", "as-user")
	ts.Check(writeProgram(filepath.Dir(asUser), filepath.Base(asUser), text))
	ts.Defer(func() { stopNamed(ts, asUser, home) })
}

// stopNamed stops the clusters with names that the ordinary user's script has left running, which happens when it fails.
func stopNamed(ts *testscript.TestScript, asUser, home string) {
	left, err := filepath.Glob(filepath.Join(home, ".local", "share", "everynode-clusters", "*"))
	ts.Check(err)
	for _, dir := range left {
		out, err := exec.Command(asUser, "everynode", "down", "--name", filepath.Base(dir)).CombinedOutput()
		if err != nil {
			clusterOf(ts).t.Errorf("stop the cluster in %s: %v\n%s", dir, err, out)
		}
	}
}

// linkOrCopy makes a program available to every user under another path. It is copied where that path is on another disk, or
// where other users may not run it: a link would have the same mode.
func linkOrCopy(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.Mode()&0o005 == 0o005 && os.Link(from, to) == nil {
		return nil
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

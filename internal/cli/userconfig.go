package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/atomicfile"
	"everynode/internal/cli/localcluster"
)

// userKubeconfigs returns the files that kubectl reads for this user, except those of
// everynode's clusters, which are not the user's to keep.
func userKubeconfigs(kubeconfig, home string) []string {
	files := filepath.SplitList(kubeconfig)
	if kubeconfig == "" && filepath.IsAbs(home) {
		if _, err := os.Stat(home); err == nil {
			files = []string{filepath.Join(home, ".kube", "config")}
		}
	}
	return slices.DeleteFunc(files, func(file string) bool {
		if file == "" {
			return true
		}
		_, err := os.Stat(filepath.Join(filepath.Dir(file), "pki"))
		return err == nil && filepath.Base(file) == filepath.Base(localcluster.AdminKubeconfig(""))
	})
}

// userFiles are the kubeconfigs of the user that runs this program.
func userFiles() []string { return userKubeconfigs(os.Getenv("KUBECONFIG"), os.Getenv("HOME")) }

// toWrite returns the file that a new context goes into. kubectl chooses it in the same
// way: the first that exists, otherwise the last.
func toWrite(files []string) string {
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	if len(files) == 0 {
		return ""
	}
	return files[len(files)-1]
}

// addContext puts the cluster into the user's kubeconfig, as the current context. It
// returns the file, or "" if the user does not have a kubeconfig to put it into.
func addContext(ctx context.Context, dataDir, name string, files []string) (file string, err error) {
	c, err := contextOf(dataDir, name)
	if err != nil {
		return "", err
	}
	if file = toWrite(files); file == "" {
		return "", nil
	}
	return file, editFile(ctx, file, func(data []byte) ([]byte, bool, error) {
		with, err := c.addTo(data)
		return with, true, err
	})
}

// dropContext removes the cluster from each of the files.
func dropContext(ctx context.Context, dataDir, name string, files []string) error {
	c, err := contextOf(dataDir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the cluster has never run
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			errs = append(errs, editFile(ctx, file, c.dropFrom))
		}
	}
	return errors.Join(errs...)
}

// contextOf returns the cluster in the data directory as a context of this name.
func contextOf(dataDir, name string) (kubeContext, error) {
	data, err := os.ReadFile(localcluster.AdminKubeconfig(dataDir))
	if err != nil {
		return kubeContext{}, fmt.Errorf("read the administrator's kubeconfig: %w", err)
	}
	c, err := readContext(data, name)
	if err != nil {
		return c, fmt.Errorf("read %s: %w", localcluster.AdminKubeconfig(dataDir), err)
	}
	return c, nil
}

// lockPatience is how long editFile waits for another program that has locked a
// kubeconfig.
const lockPatience = 5 * time.Second

// editFile changes a kubeconfig whole or not at all. Programs that use the same lock
// file, as kubectl and kind do, do not change it meanwhile. The file keeps its owner,
// and nobody else can read it.
func editFile(ctx context.Context, file string, edit func([]byte) (after []byte, changed bool, err error)) (err error) {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make the folder of the kubeconfig: %w", err)
	}
	release, err := lockKubeconfig(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	after, changed, err := edit(before)
	if err != nil {
		return fmt.Errorf("change the kubeconfig %s: %w", file, err)
	}
	if !changed {
		return nil
	}
	if _, err := clientcmd.Load(after); err != nil {
		return fmt.Errorf("change the kubeconfig %s: it cannot be read as one: %w", file, err)
	}
	return replaceFile(file, after)
}

// lockKubeconfig makes the lock file that kubectl makes.
func lockKubeconfig(ctx context.Context, file string) (release func() error, err error) {
	name := file + ".lock"
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("lock the kubeconfig: %w", err)
		}
		return true, f.Close()
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s is there for more than %s: another program changes the kubeconfig, or has ended in the middle of that; then delete the lock file", name, lockPatience)
	}
	if err != nil {
		return nil, err
	}
	return func() error { return os.Remove(name) }, nil
}

// replaceFile replaces the content in one step. The file keeps its owner.
func replaceFile(file string, content []byte) error {
	f, err := atomicfile.Create(file)
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if info, serr := os.Stat(file); serr == nil && os.Geteuid() == 0 {
		err = f.Chown(ownerOf(info))
	}
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Commit()
	}
	if err = errors.Join(err, f.Discard()); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return nil
}

// ownerOf returns the user and the group that own a file; -1 where that is not known.
func ownerOf(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return -1, -1
}

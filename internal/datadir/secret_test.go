package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesOfOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[fs.FileMode]struct{ secret, trusted string }{
		0o600: {}, 0o400: {}, 0o700: {},
		0o640: {secret: "chmod 600 " + file}, 0o604: {secret: "mode 0604"}, 0o644: {secret: "replace the secret"}, 0o601: {secret: "chmod 600"},
		0o620: {"chmod 600", "chmod go-w " + file}, 0o602: {"chmod 600", "mode 0602"},
	} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]struct {
			err  error
			want string
		}{"a secret": {CheckSecret(file), want.secret}, "trusted": {CheckTrusted(file), want.trusted}} {
			if (c.err == nil) != (c.want == "") || c.err != nil && !strings.Contains(c.err.Error(), c.want) {
				t.Errorf("%v, %s: %v, want %q", mode, what, c.err, c.want)
			}
		}
	}
	if err := errors.Join(CheckSecret(os.DevNull), CheckTrusted(os.DevNull)); err != nil {
		t.Error("what is not a file: ", err)
	}
	for _, err := range []error{CheckSecret(file + "-"), CheckTrusted(file + "-")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error("a missing file: ", err)
		}
	}
}

// The owner of a file can change it, whatever its mode. With sudo, the owner may be the
// user who called it.
func TestFilesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of others")
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chown(file, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SUDO_UID", "")
	for _, err := range []error{CheckSecret(file), CheckTrusted(file)} {
		if err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") || !strings.Contains(err.Error(), "chown 0 "+file) {
			t.Errorf("a file of another user's: %v", err)
		}
	}
	t.Setenv("SUDO_UID", "12345")
	if err := errors.Join(CheckSecret(file), CheckTrusted(file)); err != nil {
		t.Error("a file of who has called sudo:", err)
	}
}

func TestSecretsOfDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"ca.key": 0o640, "ca.crt": 0o644, "sa.pub": 0o644, "kubelet-client-1.pem": 0o604, "good.key": 0o600, "other.key": 0o644} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("gone", filepath.Join(dir, "kubelet-client-current.pem")); err != nil {
		t.Fatal(err)
	}
	err := CheckSecrets(dir, "ca.crt", "ca.key", "sa.pub", "kubelet-client-*.pem", "good.key", "missing.key")
	if err == nil || strings.Count(err.Error(), "\n") != 1 ||
		!strings.Contains(err.Error(), "chmod 600 "+filepath.Join(dir, "ca.key")) || !strings.Contains(err.Error(), "chmod 600 "+filepath.Join(dir, "kubelet-client-1.pem")) {
		t.Errorf("%v", err)
	}
	if err := CheckSecrets(dir, "good.key", "ca.crt"); err != nil {
		t.Error(err)
	}
}

package controlplane

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"everynode/internal/controlplane/pki"
)

func TestServingNames(t *testing.T) {
	s, err := Config{DataDir: t.TempDir(), Listen: "10.0.0.1:6443", SANs: []string{"api.example", "10.0.0.1", "192.0.2.7"}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	sans, err := s.ids().servingNames()
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{DNSNames: sans.DNSNames, IPAddresses: sans.IPs}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "10.0.0.1", "10.96.0.1", "192.0.2.7", "api.example", "kubernetes.default.svc"} {
		if err := cert.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	s.SANs = []string{"https://api.example"}
	if _, err := s.ids().servingNames(); err == nil {
		t.Error("a URL is taken for a name")
	}
}

// A renewal that cannot write does not stop the server, and is tried again soon. One
// that has nothing to change needs no space at all.
func TestRenewOnFullDisk(t *testing.T) {
	s := testSettings(t, Config{DataDir: t.TempDir()})
	now := time.Now()
	if err := s.ids().ensure(now); err != nil {
		t.Fatal(err)
	}
	if next := s.ids().renew(now); next != renewEvery {
		t.Errorf("the next look is in %v, want %v", next, renewEvery)
	}
	before := fileIDs(t, s.DataDir)
	if err := s.ids().ensure(now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if after := fileIDs(t, s.DataDir); !slices.Equal(before, after) {
		t.Errorf("files that say the same were written again:\n%v\n%v", before, after)
	}
	// A folder in the way of a file stands for every failure to write.
	path := s.path("admin.kubeconfig")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if next := s.ids().renew(now); next != renewAgain {
		t.Errorf("after a failure the next look is in %v, want %v", next, renewAgain)
	}
	wantError(t, pki.Ensure(s.path("pki"), nil, now.AddDate(40, 0, 0)), "set the clock if it is wrong")
}

// A server that is alone replaces the CA of the front proxy in its last year. Servers that share it only say so.
func TestRenewFrontProxy(t *testing.T) {
	for _, etcd := range [][]string{nil, {"http://127.0.0.1:2379"}} {
		s := testSettings(t, Config{DataDir: t.TempDir(), EtcdServers: etcd})
		now := time.Now()
		if err := s.ids().ensure(now); err != nil {
			t.Fatal(err)
		}
		was := readCert(t, s.path("pki"), pki.FrontProxyCA)
		if err := s.ids().ensure(now.AddDate(9, 1, 0)); err != nil {
			t.Fatal(err)
		}
		is := readCert(t, s.path("pki"), pki.FrontProxyCA)
		if alone := etcd == nil; is.Equal(was) == alone || readCert(t, s.path("pki"), frontProxyCert).CheckSignatureFrom(is) != nil {
			t.Errorf("with the etcd %v it is replaced: %v", etcd, !is.Equal(was))
		}
	}
}

// The CAs of a cluster are valid for ten years. In the last one, each check of the certificates warns.
func TestEndOfCA(t *testing.T) {
	s := testSettings(t, Config{DataDir: t.TempDir()})
	now := time.Now()
	if _, _, err := s.ids().endOf(pki.ClusterCA, now); err == nil {
		t.Error("the end of a CA that is not there is known")
	}
	if err := s.ids().ensure(now); err != nil {
		t.Fatal(err)
	}
	for years, want := range map[int]bool{0: false, 8: false, 10: true} {
		for _, name := range []string{pki.ClusterCA, pki.FrontProxyCA} {
			end, soon, err := s.ids().endOf(name, now.AddDate(years, -1, 0))
			if err != nil || soon != want || end.Year() < now.Year()+9 {
				t.Errorf("%d years later %s ends %s, soon: %v (%v)", years, name, end, soon, err)
			}
		}
	}
}

// fileIDs returns the path and inode of each file below dir, which show what was replaced.
func fileIDs(t *testing.T, dir string) (ids []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			ids = append(ids, fmt.Sprint(path, info.Sys().(*syscall.Stat_t).Ino))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

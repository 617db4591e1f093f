package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// testSize is the size of the suite's volumes, in bytes.
const testSize = 32 << 20

// TestSanity runs CSI's test suite for drivers, which formats and mounts.
func TestSanity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("the kernel has no loop devices: %v", err)
	}
	at, dir := startDriver(t), t.TempDir()
	config := sanity.NewTestConfig()
	config.Address = "unix://" + at.socket
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize = testSize
	sanity.Test(t, config)
	left, err := filepath.Glob(filepath.Join(at.volumes, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
}

// startDriver serves until the test ends, and checks that both sockets are gone then. The kubelet has registered the
// driver.
func startDriver(t *testing.T) paths {
	t.Helper()
	at := pathsBelow(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, "node-1", at) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, socket := range []string{at.socket, at.registration} {
			if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", socket, err)
			}
		}
	})
	notify(t, at, &registration.RegistrationStatus{PluginRegistered: true})
	return at
}

// notify requests what a kubelet requests from the driver, and tells it the result of the registration.
func notify(t *testing.T, at paths, what *registration.RegistrationStatus) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+at.registration, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	kubelet := registration.NewRegistrationClient(conn)
	info, err := kubelet.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if info.GetType() != registration.CSIPlugin || info.GetName() != driverName || info.GetEndpoint() != at.socket {
		t.Errorf("the kubelet is told of %v", info)
	}
	if _, err := kubelet.NotifyRegistrationStatus(ctx, what); err != nil {
		t.Fatal(err)
	}
}

// A driver that the kubelet has not registered is not ready; one that the kubelet refuses ends, and says why. The sockets
// of a driver that was killed do not get in the way.
func TestRefused(t *testing.T) {
	at := pathsBelow(t.TempDir())
	for _, socket := range []string{at.socket, at.registration} {
		if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(socket, unix.S_IFSOCK|0o600, 0); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(t.Context(), "node-1", at) }()
	notify(t, at, &registration.RegistrationStatus{PluginRegistered: true})
	if err := ready(t.Context(), at.socket); err != nil {
		t.Error(err)
	}
	notify(t, at, &registration.RegistrationStatus{Error: "the name is taken"})
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the name is taken") {
		t.Errorf("a driver that is refused ends with %v", err)
	}
	if err := ready(t.Context(), at.socket); err == nil {
		t.Error("a driver that has ended is ready")
	}
}

// While a call that changes a volume is running, others that change it are refused. Calls for other volumes, and those
// that only read, are not; nor is the same call when the first has ended.
func TestOneAtATime(t *testing.T) {
	intercept := oneAtATime()
	call := func(request any, handle func()) error {
		_, err := intercept(t.Context(), request, nil, func(context.Context, any) (any, error) {
			handle()
			return nil, nil
		})
		return err
	}
	at, nothing := "one", func() {}
	err := call(&csi.NodeStageVolumeRequest{VolumeId: at}, func() {
		for _, r := range []any{
			&csi.CreateVolumeRequest{Name: at}, &csi.DeleteVolumeRequest{VolumeId: at},
			&csi.NodeStageVolumeRequest{VolumeId: at}, &csi.NodeUnstageVolumeRequest{VolumeId: at},
			&csi.NodePublishVolumeRequest{VolumeId: at}, &csi.NodeUnpublishVolumeRequest{VolumeId: at},
		} {
			if err := call(r, nothing); status.Code(err) != codes.Aborted {
				t.Errorf("%T meanwhile: %v", r, err)
			}
		}
		for _, r := range []any{&csi.NodeStageVolumeRequest{VolumeId: "two"}, &csi.NodeGetVolumeStatsRequest{VolumeId: at}, &csi.ProbeRequest{}} {
			if err := call(r, nothing); err != nil {
				t.Errorf("%T meanwhile: %v", r, err)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	if err := call(&csi.NodeStageVolumeRequest{VolumeId: at}, nothing); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// All blocks of a volume are allocated, and a volume that does not fit is refused and leaves nothing behind.
func TestStoreReserves(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := s.create("one", 1, minSize, 0); err != nil || size != minSize {
		t.Fatalf("create: %d, %v", size, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(s.file("one"), &st); err != nil || st.Blocks*512 < minSize || st.Mode&0o777 != 0o600 {
		t.Errorf("the volume has %d bytes on the disk and mode %o, %v", st.Blocks*512, st.Mode, err)
	}
	if _, err := s.create("one", minSize+1, 2*minSize, 0); !errors.Is(err, errOtherSize) {
		t.Errorf("the same name and a larger size: %v", err)
	}
	free, err := s.free()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.create("two", 1, 2*free, 0); !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EFBIG) {
		t.Errorf("twice as much as is free: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A volume that a killed driver has left unfinished is not a volume, and is removed at the next start.
func TestStoreForgetsUnfinished(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, unfinished+"123")
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"pvc-0f1e": true, "A_b.c": true, strings.Repeat("a", maxName): true,
		"": false, ".": false, "..": false, ".new-1": false, "a/b": false, "../b": false, "a\x00": false, "ä": false,
		strings.Repeat("a", maxName+1): false,
	} {
		if got := validName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestSizeFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		least, limit, want int64
		refused            bool
	}{
		{want: defaultSize},
		{least: 1, want: minSize},
		{least: 20*mib + 1, want: 21 * mib},
		{least: 20*mib + 1, limit: 20*mib + 2, refused: true},
		{limit: 100*mib + 5, want: 100 * mib},
		{limit: 1, refused: true},
		{least: 3, limit: 2, refused: true},
		{least: -1, refused: true},
	} {
		if got, err := sizeFor(c.least, c.limit); got != c.want || (err != nil) != c.refused {
			t.Errorf("%d to %d: %d, %v", c.least, c.limit, got, err)
		}
	}
}

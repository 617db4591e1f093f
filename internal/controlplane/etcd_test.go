package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestFatalHook(t *testing.T) {
	for _, test := range []struct {
		cause error
		want  string
	}{
		{fmt.Errorf("write: %w", syscall.ENOSPC), "the disk is full"},
		{errors.New("write /d/db: no space left on device"), "the disk is full"},
		{syscall.EIO, "failed to save"},
	} {
		broken := make(chan error, 1)
		logger := zap.New(zapcore.NewNopCore(), zap.WithFatalHook(fatalHook{"/d/etcd", broken}))
		returned := make(chan struct{})
		go func() { // parked forever, as it should be
			logger.Fatal("failed to save", zap.Error(test.cause))
			close(returned)
		}()
		wantError(t, <-broken, test.want)
		select {
		case <-returned:
			t.Error("the code after a fatal log runs")
		default:
		}
	}
}

// The path of the socket may be longer than the kernel accepts.
func TestStoreInLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "etcd")
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(stopTime); err != nil {
			t.Error(err)
		}
	}()
	transport := &http.Transport{DialContext: dialSocket(s.socket)}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://etcd/health")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("etcd says %s", response.Status)
	}
}

// fill puts up to n values below prefix, and reports whether etcd refused one.
func fill(t *testing.T, client *clientv3.Client, prefix string, n int) (refused bool) {
	t.Helper()
	value := strings.Repeat("x", 32<<10) // small: what one commit frees must be little of the quota
	for i := range n {
		_, err := client.Put(t.Context(), fmt.Sprintf("/registry/%s/%d", prefix, i), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return true
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return false
}

func mustFill(t *testing.T, client *clientv3.Client, prefix string) {
	t.Helper()
	if !fill(t, client, prefix, 4000) {
		t.Fatal("etcd has no quota")
	}
}

// startSmall starts a store with a quota of 16 MiB.
func startSmall(t *testing.T, dir string) (s *store, client *clientv3.Client, stop func()) {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.quota = 16 << 20
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.start(ctx); err != nil {
		t.Fatal(err)
	}
	client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := errors.Join(client.Close(), s.stop(stopTime)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, client, stop
}

func wantWritable(t *testing.T, client *clientv3.Client) {
	t.Helper()
	_, putErr := client.Put(t.Context(), "/registry/after", "1")
	_, leaseErr := client.Grant(t.Context(), presenceTime)
	if putErr != nil || leaseErr != nil {
		t.Errorf("etcd refuses to write: %v, %v", putErr, leaseErr)
	}
}

// A full etcd accepts writes again when objects were deleted: with the next start, and while it runs.
func TestStoreFull(t *testing.T) {
	dir := t.TempDir()
	s, client, stop := startSmall(t, dir)
	now := time.Now()
	if said := s.mindSpace(t.Context(), now); said != "" {
		t.Errorf("an empty database: %q", said)
	}
	if fill(t, client, "first", 400) {
		t.Fatal("etcd refuses 13 MiB")
	}
	s.etcd.Server.Backend().ForceCommit() // otherwise the size in use is known a little later
	if said := s.mindSpace(t.Context(), now); !strings.Contains(said, "of its quota of 16.8 MB") || strings.Contains(said, "refused") {
		t.Errorf("nearly full: %q", said)
	}
	said := "accepts writes again"
	for i := 0; strings.Contains(said, "accepts writes again"); i++ { // a part may still be free when it is first refused
		mustFill(t, client, fmt.Sprint("rest-", i))
		said = s.mindSpace(t.Context(), now.Add(time.Second)) // so soon because it is worse
	}
	for _, want := range []string{"refuses writes", "restart the server", "% of its quota of 16.8 MB", "apiserver_resource_objects"} {
		if !strings.Contains(said, want) {
			t.Errorf("full: %q, without %q", said, want)
		}
	}
	if said := s.mindSpace(t.Context(), now.Add(tellSpaceEvery)); said != "" {
		t.Errorf("said again too soon: %q", said)
	}
	if said := s.mindSpace(t.Context(), now.Add(tellSpaceEvery+time.Second)); !strings.Contains(said, "refuses writes") {
		t.Errorf("an hour later: %q", said)
	}
	if _, err := client.Delete(t.Context(), "/registry/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	stop()

	s, client, _ = startSmall(t, dir)
	wantWritable(t, client)
	if size := s.etcd.Server.Backend().Size(); size > 1<<20 {
		t.Errorf("the database has %d bytes", size)
	}
	mustFill(t, client, "rest")
	if _, err := client.Delete(t.Context(), "/registry/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "etcd accepts writes again", func(ctx context.Context) (bool, error) {
		said := s.mindSpace(ctx, now.Add(tellSpaceEvery))
		return strings.Contains(said, "accepts writes again"), nil
	})
	wantWritable(t, client)
}

// If nothing was deleted, a start gives the database a little more room: otherwise no server could start in which
// somebody could delete something.
func TestStoreFullAtStart(t *testing.T) {
	dir := t.TempDir()
	_, client, stop := startSmall(t, dir)
	mustFill(t, client, "rest")
	stop()
	s, client, stop := startSmall(t, dir)
	wantWritable(t, client)
	if said := s.mindSpace(t.Context(), s.told.Add(tellSpaceEvery)); !strings.Contains(said, "of its quota of 16.8 MB") {
		t.Errorf("nearly full: %q", said)
	}
	stop()
	if s, err := openStore(t.TempDir()); err != nil || s.limit() != storeQuota {
		t.Errorf("a new store: %v", err)
	}
}

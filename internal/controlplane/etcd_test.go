package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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

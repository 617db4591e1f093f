package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"everynode/internal/controlplane/private"
)

// maxSocketPath is the longest path of a socket that bind(2) accepts, in bytes.
const maxSocketPath = 107

// store is the embedded etcd: a single, durable member.
type store struct {
	dir    string
	socket string
	url    string   // where clients find it
	handle *os.File // held open while url leads through it; else nil
	etcd   *embed.Etcd
	level  zap.AtomicLevel // what etcd logs
	// broken gets the error that made etcd give up. It is never closed.
	broken chan error
	// quota is storeQuota, except in tests; granted is what etcd was started with.
	quota, granted int64
	told           time.Time // when people were last told that the database is full, or nearly
	toldFull       bool      // it was full
}

// openStore chooses the address of a store that keeps its data in dir. If the
// path is too long for a socket, the address goes through this process's own
// descriptor of the directory.
func openStore(dir string) (*store, error) {
	if err := private.MakeDir(dir); err != nil {
		return nil, err
	}
	s := newStore(dir)
	if len(s.socket) > maxSocketPath {
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("open the etcd directory: %w", err)
		}
		s.handle = f
		s.socket = fmt.Sprintf("/proc/self/fd/%d/etcd.sock", f.Fd())
	}
	s.url = "unix://" + s.socket
	return s, nil
}

func newStore(dir string) *store {
	return &store{dir: dir, socket: filepath.Join(dir, "etcd.sock"), broken: make(chan error, 1), quota: storeQuota,
		level: zap.NewAtomicLevelAt(zapcore.ErrorLevel)}
}

// start starts the member and waits until it answers or ctx ends.
func (s *store) start(ctx context.Context) error {
	// A start that cannot write parks its goroutine in the fatal hook and never
	// returns, so it has a goroutine of its own.
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan result, 1)
	cfg := s.config()
	s.granted = cfg.QuotaBackendBytes
	go func() {
		etcd, err := embed.StartEtcd(cfg)
		started <- result{etcd, err}
	}()
	select {
	case err := <-s.broken:
		return storeError{err}
	case r := <-started:
		if r.err != nil {
			return describeStoreError(s.dir, "etcd could not start", r.err)
		}
		s.etcd = r.etcd
	}
	if err := s.await(ctx, s.etcd.Server.ReadyNotify()); err != nil {
		return err
	}
	s.level.SetLevel(zapcore.WarnLevel)
	minded := make(chan struct{})
	go func() { // it writes, too
		defer close(minded)
		s.tellSpace(ctx, time.Now())
	}()
	return s.await(ctx, minded)
}

// await returns when done is closed, the store has broken or ctx has ended.
func (s *store) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case err := <-s.broken:
		return storeError{err}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// config describes a member without peers: it listens for none, keeps no
// log for followers to catch up with, and elects itself within 0.2 s.
func (s *store) config() *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "everynode"
	cfg.Dir = s.dataDir()
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: s.socket}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.EnableGRPCGateway = false
	cfg.QuotaBackendBytes = s.limit()
	cfg.TickMs, cfg.ElectionMs = 20, 200
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 5000, 100
	cfg.ZapLoggerBuilder = func(c *embed.Config) error {
		logger, err := s.logger()
		if err != nil {
			return err
		}
		return embed.NewZapLoggerBuilder(logger)(c)
	}
	return cfg
}

// logger returns etcd's logger. Its hook also decides what happens when etcd gives up.
func (s *store) logger() (*zap.Logger, error) {
	logs := logutil.DefaultZapLoggerConfig
	logs.Level, logs.DisableStacktrace = s.level, true
	hook := fatalHook{s.dir, s.broken}
	logger, err := logs.Build(zap.WithFatalHook(hook), zap.WithPanicHook(hook))
	if err != nil {
		return nil, fmt.Errorf("build etcd's logger: %w", err)
	}
	return logger, nil
}

// storeError marks that the embedded store has broken, and cannot be stopped.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// fatalHook replaces os.Exit where etcd cannot continue.
type fatalHook struct {
	dir    string
	broken chan<- error
}

// OnWrite reports the failure and never returns: the code after a fatal log
// relies on not being reached, and would acknowledge a write that is not on
// disk. The goroutine stays parked until the process ends.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	var cause error
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			cause = err
		}
	}
	select {
	case h.broken <- describeStoreError(h.dir, "etcd could not continue: "+entry.Message, cause):
	default: // one failure is enough
	}
	select {}
}

// describeStoreError says in plain words why etcd ended.
func describeStoreError(dir, what string, cause error) error {
	switch {
	case cause == nil:
		return errors.New(what)
	case errors.Is(cause, syscall.ENOSPC) || strings.Contains(cause.Error(), syscall.ENOSPC.Error()):
		return fmt.Errorf("the disk is full: etcd could not write to %s; free space on that disk, then run `everynode up` again: nothing acknowledged is lost (%w)", dir, cause)
	}
	return fmt.Errorf("%s: %w (the data is in %s)", what, cause, dir)
}

// stop stops etcd cleanly, with its last writes on disk. It waits for at most
// limit, because a member that breaks while it stops never finishes.
func (s *store) stop(limit time.Duration) error {
	if s.etcd != nil {
		s.level.SetLevel(zapcore.DPanicLevel) // etcd logs an error for each listener that closes
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			s.etcd.Close()
		}()
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-closed:
		case err := <-s.broken:
			return storeError{err}
		case <-timer.C:
			return fmt.Errorf("etcd did not stop within %s", limit)
		}
	}
	if s.handle != nil {
		return s.handle.Close()
	}
	return nil
}

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// answerTime is how long etcd may take to answer before it counts as unreachable.
	answerTime = 5 * time.Second
	// pingTime is how often a silent connection is probed, and how long an
	// answer may take: a frozen etcd must not hold up a backup forever.
	pingTime = 10 * time.Second
)

// etcdSource is the member of etcd that a snapshot is taken from.
type etcdSource struct {
	config  clientv3.Config
	size    int64 // of its database, in bytes
	release func() error
}

// runningEtcd is the etcd of a running cluster.
type runningEtcd struct {
	data   dataFolder
	etcd   etcdAccess
	inside bool // it is in the server of the data directory
}

// source finds a member that answers.
func (r runningEtcd) source(ctx context.Context) (*etcdSource, error) {
	if r.inside {
		return r.embedded(ctx)
	}
	config, err := r.etcd.clientConfig()
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, url := range r.etcd.servers {
		config.Endpoints = []string{url} // a snapshot is taken from one member
		size, err := askMember(ctx, config)
		if err == nil {
			return &etcdSource{config, size, func() error { return nil }}, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", url, err))
	}
	return nil, fmt.Errorf("no etcd answers at %s: check that it runs, its addresses, and its CA, certificate and key: %w",
		strings.Join(r.etcd.servers, ", "), errors.Join(failures...))
}

// clientConfig reads the TLS files. All of them may be empty.
func (e etcdAccess) clientConfig() (clientv3.Config, error) {
	config := clientv3.Config{Logger: zap.NewNop(), DialTimeout: answerTime, DialKeepAliveTime: pingTime, DialKeepAliveTimeout: pingTime}
	if e.caFile == "" && e.certFile == "" && e.keyFile == "" {
		return config, nil
	}
	tls, err := transport.TLSInfo{TrustedCAFile: e.caFile, CertFile: e.certFile, KeyFile: e.keyFile}.ClientConfig()
	if err != nil {
		return config, fmt.Errorf("read the CA, certificate and key for etcd: %w", err)
	}
	config.TLS = tls
	return config, nil
}

// embedded returns the etcd inside the server that runs on the data directory.
func (r runningEtcd) embedded(ctx context.Context) (*etcdSource, error) {
	dir := r.data.path("etcd")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, noServer(string(r.data), err)
	}
	store, err := openStore(dir) // for its address; it is not started
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: answerTime}).DialContext(ctx, "unix", store.socket)
	if err != nil {
		return nil, errors.Join(noServer(string(r.data), err), store.stop(0))
	}
	config, err := r.etcd.clientConfig()
	if err == nil {
		err = conn.Close()
	}
	config.Endpoints = []string{store.url}
	source := &etcdSource{config: config, release: func() error { return store.stop(0) }}
	if err == nil {
		source.size, err = askMember(ctx, config)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the etcd of the server in %s does not answer: look at its log: %w", string(r.data), err), source.release())
	}
	return source, nil
}

// open returns a client of the etcd of a running cluster, and what closes it.
func (r runningEtcd) open(ctx context.Context) (*sharedStore, func() error, error) {
	source, err := r.source(ctx)
	if err != nil {
		return nil, nil, err
	}
	urls := r.etcd.servers
	if r.inside {
		urls = source.config.Endpoints
	}
	c, err := r.etcd.openAt(urls)
	if err != nil {
		return nil, nil, errors.Join(err, source.release())
	}
	return c, func() error {
		c.close()
		return source.release()
	}, nil
}

func noServer(dataDir string, err error) error {
	return fmt.Errorf("no server with embedded etcd runs in %s: start it (`everynode up`, or `everynode server`), name its folder with --data-dir, or its etcd with --etcd-servers: %w",
		dataDir, err)
}

// askMember returns the size, in bytes, of the database of the one endpoint in config.
// It first reads through the leader: a member that is cut off from the leader must not
// hand out an old state as if it were the present one.
func askMember(ctx context.Context, config clientv3.Config) (size int64, err error) {
	client, err := clientv3.New(config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := client.Get(ctx, "everynode", clientv3.WithCountOnly()); err != nil {
		return 0, err
	}
	status, err := client.Status(ctx, config.Endpoints[0])
	if err != nil {
		return 0, err
	}
	return status.DbSize, nil
}

package compat

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// server is a bare API server with its own etcd, both in this process. No other
// controller runs on it: everything is written by the controller under test, by
// the lab, or by the test.
type server struct {
	once   sync.Once
	err    error
	config *rest.Config
	store  *embed.Etcd
	stop   func() error
}

// shared is the process's only server: a second one cannot be started.
var shared server

func TestMain(m *testing.M) {
	if name := os.Getenv(controllerEnv); name != "" {
		os.Exit(controllerMain(name)) // process_test.go has started this process
	}
	code := m.Run()
	if shared.stop != nil {
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// apiServer returns the configuration of a client with all rights. The first
// call starts the server.
func apiServer(t *testing.T) *rest.Config {
	t.Helper()
	shared.once.Do(func() {
		begin := time.Now()
		shared.err = shared.start()
		t.Logf("etcd and the API server took %s", time.Since(begin).Round(time.Millisecond))
	})
	if shared.err != nil {
		t.Fatal("the API server did not start: ", shared.err)
	}
	return rest.CopyConfig(shared.config)
}

func (s *server) start() error {
	if err := quiet(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "compat")
	if err != nil {
		return err
	}
	store, address, err := startStore(dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	stop := func() error {
		cancel()
		err := <-ended
		store.Close()
		return errors.Join(err, os.RemoveAll(dir))
	}
	setUp := configure
	if program := os.Getenv(apiServerEnv); program != "" {
		setUp = configureProgram(program)
	}
	config, run, err := setUp(ctx, dir, address)
	if err != nil {
		ended <- nil
		return errors.Join(err, stop())
	}
	go func() { ended <- run(ctx) }()
	if err := waitReady(ctx, config); err != nil {
		return errors.Join(err, stop())
	}
	s.config, s.store, s.stop = config, store, stop
	return nil
}

// quiet keeps the logs of the servers out of the tests' output, except for
// fatal errors.
func quiet() error {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(fs)
	for name, value := range map[string]string{
		"logtostderr": "true", "legacy_stderr_threshold_behavior": "false", "stderrthreshold": "FATAL",
	} {
		if err := fs.Set(name, value); err != nil {
			return err
		}
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	return nil
}

func startStore(dir string) (store *embed.Etcd, address string, err error) {
	socket := filepath.Join(dir, "etcd.sock")
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	cfg.AdvertiseClientUrls, cfg.ListenPeerUrls = cfg.ListenClientUrls, nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 20, 200
	cfg.UnsafeNoFsync, cfg.EnableGRPCGateway = true, false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	store, err = embed.StartEtcd(cfg)
	if err != nil {
		return nil, "", fmt.Errorf("start etcd: %w", err)
	}
	<-store.Server.ReadyNotify()
	return store, "unix://" + socket, nil
}

// serverFlags returns the flags of every API server here. Its own client may do
// everything, and the engine what its role allows. Admission that would change
// nodes or require service accounts is off.
func serverFlags(dir, etcd string, port int) ([]string, error) {
	key := filepath.Join(dir, "service-accounts.key")
	if err := writeKey(key); err != nil {
		return nil, err
	}
	return []string{
		"--etcd-servers=" + etcd, "--cert-dir=" + dir, "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port),
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=198.19.0.0/24", "--authorization-mode=RBAC",
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,Priority,DefaultTolerationSeconds",
		"--service-account-issuer=https://compat.example", "--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--profiling=false", "--max-requests-inflight=4000", "--max-mutating-requests-inflight=2000",
	}, nil
}

// configure prepares an API server in this process.
func configure(ctx context.Context, dir, etcd string) (*rest.Config, func(context.Context) error, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	flags, err := serverFlags(dir, etcd, listener.Addr().(*net.TCPAddr).Port)
	if err != nil {
		return nil, nil, err
	}
	o := options.NewServerRunOptions()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	sets := o.Flags()
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(flags); err != nil {
		return nil, nil, err
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, nil, err
	}
	o.SecureServing.Listener = listener
	if o.InformerName, err = cache.NewInformerName("compat"); err != nil {
		return nil, nil, err
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return nil, nil, err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, nil, utilerrors.NewAggregate(errs)
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, nil, err
	}
	loopback := rest.CopyConfig(config.KubeAPIs.ControlPlane.Generic.LoopbackClientConfig)
	loopback.QPS = -1
	return loopback, func(ctx context.Context) error {
		completed, err := config.Complete()
		if err != nil {
			return err
		}
		chain, err := app.CreateServerChain(completed)
		if err != nil {
			return err
		}
		chain.GenericAPIServer.ShutdownTimeout = time.Second
		prepared, err := chain.PrepareRun()
		if err != nil {
			return err
		}
		return prepared.Run(ctx)
	}, nil
}

func writeKey(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	pem, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem, 0o600)
}

func waitReady(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
}

package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// The roles in which this program can run.
const (
	RoleEtcd              = "etcd"
	RoleAPIServer         = "kube-apiserver"
	RoleControllerManager = "kube-controller-manager"
	RoleScheduler         = "kube-scheduler"
)

// storeQuota is how large etcd's database may become, in bytes.
const storeQuota = 32 << 30

// PlayRole runs this process in the role until it gets a signal. ok is false if
// there is no such role.
func PlayRole(role string, args []string) (code int, ok bool) {
	var err error
	switch role {
	case RoleControllerManager:
		cmd := controllermanager.NewControllerManagerCommand()
		cmd.SetArgs(args)
		return cli.Run(cmd), true
	case RoleScheduler:
		cmd := scheduler.NewSchedulerCommand()
		cmd.SetArgs(args)
		return cli.Run(cmd), true
	case RoleEtcd:
		err = untilSignal(func(ctx context.Context) error { return runEtcd(ctx, args[0]) })
	case RoleAPIServer:
		err = untilSignal(func(ctx context.Context) error { return runAPIServer(ctx, args) })
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return 1, true
	}
	return 0, true
}

func untilSignal(work func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return work(ctx)
}

// runEtcd is etcd with its defaults, durable, with one member and no peers. It
// listens on dir/etcd.sock.
func runEtcd(ctx context.Context, dir string) error {
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(dir, "etcd.sock")}}
	cfg.AdvertiseClientUrls, cfg.ListenPeerUrls = cfg.ListenClientUrls, nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.QuotaBackendBytes = storeQuota
	cfg.LogLevel = "warn"
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer etcd.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-etcd.Err():
		return err
	}
}

// listenerFD is the descriptor of the listener that the API server inherits.
const listenerFD = 3

// runAPIServer is kube-apiserver with these flags, and with a request counter
// around its handlers.
func runAPIServer(ctx context.Context, args []string) error {
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("take the listener: %w", err)
	}
	o := options.NewServerRunOptions()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	sets := o.Flags()
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(append(args, fmt.Sprintf("--secure-port=%d", listener.Addr().(*net.TCPAddr).Port))); err != nil {
		return err
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	o.SecureServing.Listener = listener
	if o.InformerName, err = cache.NewInformerName("kube-apiserver"); err != nil {
		return err
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return err
	}
	count := &counter{counts: map[Request]*Answers{}}
	generic := &config.Aggregator.GenericConfig.Config
	chain := generic.BuildHandlerChainFunc
	generic.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return chain(count.around(handler), c)
	}
	return serve(ctx, config)
}

func serve(ctx context.Context, config *app.Config) error {
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
	if err := prepared.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"everynode/internal/controlplane/admission"
	"everynode/internal/controlplane/pki"
)

const (
	// drainTime is how long open requests may go on once the server stops.
	drainTime = 3 * time.Second
	readyTime = 60 * time.Second
	// tokenMemory is how long a deleted token still gives access.
	tokenMemory = time.Second
)

// apiServer is a kube-apiserver that is configured but not yet started.
type apiServer struct {
	config *app.Config
	// loopback is the server's own privileged identity. It exists in memory
	// only, for the life of the process.
	loopback *rest.Config
	gate     *admission.Gate
}

// newAPIServer builds the configuration, which takes a while and does not
// need etcd yet. Its background goroutines end with ctx.
func newAPIServer(ctx context.Context, s *settings, etcdURLs []string, listener net.Listener) (*apiServer, error) {
	if err := errors.Join(s.audit.write(), s.writeEncryption(), s.admission.write(s.data()), s.authentication().write()); err != nil {
		return nil, err
	}
	hastenReload()
	o := options.NewServerRunOptions()
	if err := parse(o.Flags(), s.apiServerFlags(etcdURLs)); err != nil {
		return nil, fmt.Errorf("configure the API server: %w", err)
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, fmt.Errorf("set feature gates: %w", err)
	}
	o.SecureServing.Listener = listener
	o.Authentication.TokenSuccessCacheTTL = tokenMemory
	var err error
	if o.InformerName, err = cache.NewInformerName("kube-apiserver"); err != nil {
		return nil, fmt.Errorf("name the API server's informers: %w", err)
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("complete the API server's options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("the API server's options are not valid: %w", utilerrors.NewAggregate(errs))
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, fmt.Errorf("configure the API server: %w", err)
	}
	if err := hastenPolicy(config.KubeAPIs.ControlPlane.Generic); err != nil {
		return nil, fmt.Errorf("configure the API server: %w", err)
	}
	gate := admission.NewGate()
	for _, server := range []*genericapiserver.Config{config.KubeAPIs.ControlPlane.Generic, &config.ApiExtensions.GenericConfig.Config, &config.Aggregator.GenericConfig.Config} {
		if server.Authorization.Authorizer, err = gate.Before(server.Authorization.Authorizer); err != nil {
			return nil, fmt.Errorf("configure the API server: %w", err)
		}
		server.Authentication.Authenticator = admission.NewCertificates(server.Authentication.Authenticator)
	}
	loopback := rest.CopyConfig(config.KubeAPIs.ControlPlane.Generic.LoopbackClientConfig)
	loopback.QPS = -1
	return &apiServer{config: config, loopback: loopback, gate: gate}, nil
}

// apiServerFlags returns the flags of kube-apiserver.
func (s *settings) apiServerFlags(etcdURLs []string) []string {
	file := func(name string) string { return s.path("pki", name) }
	reconciler := "lease"
	if s.advertise.IsLoopback() {
		reconciler = "none" // an Endpoints object cannot have a loopback address
	}
	flags := []string{
		"--advertise-address=" + s.advertise.String(),
		"--bind-address=" + s.listen.Addr().String(),
		"--secure-port=" + s.portText(),
		"--endpoint-reconciler-type=" + reconciler,
		"--service-cluster-ip-range=" + s.serviceRange.String(),
		"--allow-privileged=true",
		"--profiling=false",
		// There is no kube-proxy beside this process, so the API server calls
		// webhooks and aggregated API servers at the addresses of their pods.
		"--enable-aggregator-routing=true",
		"--shutdown-watch-termination-grace-period=" + drainTime.String(),

		"--tls-cert-file=" + file(servingCert+".crt"),
		"--tls-private-key-file=" + file(servingCert+".key"),
		"--client-ca-file=" + file(pki.ClusterAuthorities),
		"--authorization-mode=Node,RBAC",
		"--enable-bootstrap-token-auth=true",

		"--encryption-provider-config=" + file(encryptionFile),
		"--encryption-provider-config-automatic-reload=true",

		"--service-account-issuer=" + serviceAccountIssuer,
		"--service-account-key-file=" + file(pki.ServiceAccountPub),
		"--service-account-signing-key-file=" + file(pki.ServiceAccountKey),
		// A pod's token ends after the hour that its kubelet asks for, and not after a year, as is the default for the sake of
		// clients from before 2020 that read it once.
		"--service-account-extend-token-expiration=false",

		"--kubelet-client-certificate=" + file(kubeletClientCert+".crt"),
		"--kubelet-client-key=" + file(kubeletClientCert+".key"),
		"--kubelet-certificate-authority=" + file(pki.KubeletAuthorities),
		// The control plane's host need not resolve the names of nodes.
		"--kubelet-preferred-address-types=InternalIP",

		"--requestheader-client-ca-file=" + file(pki.FrontProxyCA+".crt"),
		"--requestheader-allowed-names=" + frontProxyUser,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + file(frontProxyCert+".crt"),
		"--proxy-client-key-file=" + file(frontProxyCert+".key"),

		"--etcd-servers=" + strings.Join(etcdURLs, ","),
	}
	for flag, value := range map[string]string{"cafile": s.EtcdCAFile, "certfile": s.EtcdCertFile, "keyfile": s.EtcdKeyFile} {
		if value != "" {
			flags = append(flags, "--etcd-"+flag+"="+value)
		}
	}
	return slices.Concat(flags, s.admission.flags(s.data(), s.AllowExternalIPs), s.authentication().flags(), s.audit.flags())
}

// run serves until ctx ends and the last request is drained. etcd must be running.
func (a *apiServer) run(ctx context.Context) error {
	completed, err := a.config.Complete()
	if err != nil {
		return fmt.Errorf("complete the configuration: %w", err)
	}
	chain, err := app.CreateServerChain(completed)
	if err != nil {
		return fmt.Errorf("build the server: %w", err)
	}
	chain.GenericAPIServer.ShutdownTimeout = drainTime
	prepared, err := chain.PrepareRun()
	if err != nil {
		return fmt.Errorf("prepare the server: %w", err)
	}
	return prepared.Run(ctx)
}

// waitReady returns once every readiness check of the API server passes.
func (a *apiServer) waitReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(a.loopback)
	if err != nil {
		return fmt.Errorf("make a client for the API server: %w", err)
	}
	last := errors.New("it has not answered yet")
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, readyTime, true, func(ctx context.Context) (bool, error) {
		body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Raw()
		if err != nil {
			last = fmt.Errorf("%w: %s", err, body)
		}
		return err == nil, nil
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("the API server is not ready after %s: %w", readyTime, last)
	}
	return err
}

// parse reads a component's flags as its own command would.
func parse(sets cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	return fs.Parse(args)
}

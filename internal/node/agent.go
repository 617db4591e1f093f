package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"everynode/internal/datadir"
	"everynode/internal/node/image"
	"everynode/internal/node/podnet"
	"everynode/internal/node/upstream"
	"everynode/internal/registry"
)

// runtimeWithin is how long the container runtime may take to answer at start.
const runtimeWithin = time.Minute

// agent is one run of Run.
type agent struct {
	cfg     Config
	machine machine
	self    string // path of this program, which is also the kubelet and kube-proxy

	// The services; nil: not started.
	forward, containerd, socket, addons, kubelet, network, servers, authorities, proxy *service

	fresh restarts // of services that use the node's credentials

	archives *registry.Archives // what addons serves
	pods     *podnet.Network    // the network's rules and routes, to be cleaned up
}

// Run makes this machine a node of the cluster at cfg.Servers, and keeps it one
// until ctx ends. Then it stops the kubelet, the pods (with StopPods), kube-proxy
// and containerd, in this order, and returns nil. Without StopPods the pods keep
// running, and the next Run takes them over.
//
// It returns an error early when the machine lacks something, another agent
// uses the data directory, or the cluster does not let the node in.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := checkSuperuser(); err != nil {
		return err
	}
	if cfg, err = cfg.complete(); err != nil {
		return err
	}
	if err := checkJoinable(cfg); err != nil {
		return err
	}
	if _, err := datadir.Claim(cfg.DataDir, datadir.Agent); err != nil {
		return err
	}
	unlock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := cfg.files().checkSecrets(); err != nil {
		return err
	}
	machine, err := preflight(ctx, cfg)
	if err != nil {
		return fmt.Errorf("this machine cannot be a node:\n%w", err)
	}
	if err := noteMachine(cfg); err != nil {
		return err
	}
	if open := openVolumes(volumesDir); open != "" && !cfg.Local {
		cfg.Log.Warn(open)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	hastenReconnect()
	a := &agent{cfg: cfg, machine: machine, self: self}
	defer a.stop(context.WithoutCancel(ctx))
	if err := a.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		return err
	}
	<-ctx.Done()
	return nil
}

// start starts everything, each part as soon as what it needs is available: joining
// the cluster and starting the container runtime do not wait for each other.
func (a *agent) start(ctx context.Context) error {
	started := time.Now()
	forward, err := a.startForward(ctx)
	if err != nil {
		return err
	}
	if err := a.configure(); err != nil {
		return err
	}
	ready, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.startRuntime(ready); err != nil {
			failed(err)
		}
	})
	var dns string
	wg.Go(func() {
		err := a.join(ready, forward)
		if err == nil {
			dns, err = a.cfg.clusterDNS(ready)
		}
		if err != nil {
			failed(err)
		}
	})
	wg.Wait()
	if err := context.Cause(ready); err != nil {
		return err
	}
	if err := a.configureKubelet(dns); err != nil {
		return err
	}
	a.kubelet = supervise(ctx, "kubelet", a.cfg.Log, a.fresh.around(func(ctx context.Context) error {
		return kubeletProcess(a.cfg, a.self).run(ctx)
	}))
	if err := waitForCredentials(ctx, a.cfg); err != nil {
		return err
	}
	if forward != nil {
		a.servers = supervise(ctx, "watch of the API servers", a.cfg.Log, a.fresh.around(func(ctx context.Context) error {
			return forward.Learn(ctx, a.cfg.files().kubeconfig())
		}))
	}
	if err := a.startNetwork(ctx, started); err != nil || forward == nil {
		return err
	}
	a.authorities = supervise(ctx, "watch of the cluster's authorities", a.cfg.Log, a.followAuthorities(forward))
	return nil
}

// followAuthorities follows a rotation of the cluster's CA. Services that use the
// node's credentials then restart; pods and their containers do not.
func (a *agent) followAuthorities(forward *upstream.Forwarder) func(context.Context) error {
	f := authorityFollower{cfg: a.cfg, changed: func(ca []byte) error {
		defer a.fresh.all()
		return forward.Trust(ca)
	}}
	return func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := f.run(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// startForward starts the forwarder, which carries the connections of this machine's
// programs to an API server that works. It returns nil for a local node, which does
// not need one: its only server runs on the same machine, at an address that does
// not change.
func (a *agent) startForward(ctx context.Context) (*upstream.Forwarder, error) {
	if a.cfg.Local {
		return nil, nil
	}
	ca, err := a.cfg.files().knownCA()
	if err != nil {
		return nil, err
	}
	f, err := upstream.NewForwarder(upstream.Options{
		Node: a.cfg.Name, Given: a.cfg.hosts, File: a.cfg.files().servers(), CA: ca, Log: a.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	a.cfg.api = f.URL()
	a.forward = supervise(ctx, "forwarder", a.cfg.Log, f.Run)
	return f, nil
}

// join joins the cluster. From then on the forwarder uses only servers of that
// cluster.
func (a *agent) join(ctx context.Context, forward *upstream.Forwarder) error {
	if err := join(ctx, a.cfg); err != nil || forward == nil {
		return err
	}
	ca, err := a.cfg.files().knownCA()
	if err != nil {
		return err
	}
	return forward.Trust(ca)
}

// configure prepares the cgroup, and writes the configuration of the children that
// need to know nothing about the cluster.
func (a *agent) configure() error {
	cfg := a.cfg
	if err := prepareCgroup(cgroupMount, cfg.CgroupRoot, a.machine.cgroupV2); err != nil {
		return err
	}
	proxy, err := proxyConfiguration(cfg, a.machine)
	if err != nil {
		return err
	}
	errs := []error{writeFile(cfg.files().proxyConfig(), proxy)}
	if cfg.ContainerRuntimeEndpoint == "" {
		containerd, err := containerdConfig(cfg, a.machine)
		if err != nil {
			return err
		}
		errs = append(errs, writeFile(cfg.files().containerdConfig(), containerd), cfg.writeContainerdImport(), cfg.registries.write(cfg.files().registryHosts()))
	}
	return errors.Join(errs...)
}

// configureKubelet writes the kubelet's configuration. dns is the address of the
// cluster's DNS, or "".
func (a *agent) configureKubelet(dns string) error {
	cfg := a.cfg
	cfg.ClusterDNS = dns
	resolver, err := cfg.resolver("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
	if err != nil {
		return err
	}
	kubelet, err := kubeletConfiguration(cfg, a.machine, resolver)
	if err != nil {
		return err
	}
	return errors.Join(writeFile(cfg.files().kubeletConfig(), kubelet), cfg.writeKubeletDropIn())
}

// startRuntime starts containerd, unless the node uses another runtime, and loads
// the images in RuntimeDir and ImageDirs.
func (a *agent) startRuntime(ctx context.Context) error {
	cfg := a.cfg
	started := time.Now()
	if cfg.ContainerRuntimeEndpoint == "" {
		if err := cfg.raiseLimits(); err != nil {
			return err
		}
		a.containerd = supervise(ctx, "containerd", cfg.Log, containerdProcess(cfg).run)
	}
	waiting, cancel := context.WithTimeout(ctx, runtimeWithin)
	defer cancel()
	if err := waitForSocket(waiting, cfg.endpointSocket()); err != nil {
		hint := "see " + cfg.files().path("containerd.log")
		if cfg.ContainerRuntimeEndpoint != "" {
			hint = "start it, or leave out --container-runtime-endpoint to get everynode's own"
		}
		return fmt.Errorf("the container runtime at %s does not answer: %w; %s", cfg.endpoint(), err, hint)
	}
	if cfg.ContainerRuntimeEndpoint != "" {
		return a.loadImagesElsewhere(ctx)
	}
	client, err := image.Connect(cfg.files().socket())
	if err != nil {
		return err
	}
	defer client.Close()
	cfg.Log.Info("container runtime ready", "took", time.Since(started).Round(time.Millisecond))
	if cfg.ownsUsualSocket() {
		second := secondSocket{path: usualSocket, to: cfg.files().socket(), log: cfg.Log}
		a.socket = supervise(ctx, "containerd's usual socket", cfg.Log, second.run)
	}
	if err := setSnapshotter(ctx, client, a.machine.snapshotter); err != nil {
		return err
	}
	// Without the sandbox image no pod can start. Any other image matters only to
	// its own pods.
	if _, err := image.ImportFile(ctx, client, filepath.Join(cfg.RuntimeDir, "images", "pause.tar")); err != nil {
		return fmt.Errorf("load the image that every pod needs: %w", err)
	}
	dirs := a.imageDirs()
	if !a.serveAddons(ctx) {
		dirs = append(dirs, cfg.addonDir())
	}
	image.ImportAll(ctx, cfg.Log, client, dirs)
	return nil
}

// serveAddons starts the mirror for the add-ons' images, and reports whether that is
// enough. If not, because containerd would not ask the mirror, the images have to be
// loaded.
func (a *agent) serveAddons(ctx context.Context) bool {
	archives, err := registry.Open(a.cfg.addonDir())
	if err != nil {
		a.cfg.Log.Error("cannot serve the add-ons' images for pulling; loading them instead", "err", err)
		return false
	}
	if none := len(archives.Hosts()) == 0; none || overruled(registrySettings, archives) || overruled(a.cfg.files().registryHosts(), archives) {
		if err := archives.Close(); err != nil {
			a.cfg.Log.Error("could not close an image archive", "err", err)
		}
		return none
	}
	a.archives = archives
	a.addons = supervise(ctx, "mirror of the add-ons' images", a.cfg.Log, addonRegistry{archives, a.cfg.files().addonHosts()}.run)
	return true
}

func (a *agent) imageDirs() []string {
	return append([]string{filepath.Join(a.cfg.RuntimeDir, "images")}, a.cfg.ImageDirs...)
}

// loadImagesElsewhere loads everynode's images into a runtime that the agent did not
// start, if that is a containerd. Other runtimes pull them from a registry.
func (a *agent) loadImagesElsewhere(ctx context.Context) error {
	client, err := image.Connect(a.cfg.endpointSocket())
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Version(ctx); err != nil {
		a.cfg.Log.Warn("the container runtime is not containerd; loading no image archives", "err", err)
		return nil
	}
	image.ImportAll(ctx, a.cfg.Log, client, append(a.imageDirs(), a.cfg.addonDir()))
	return nil
}

// setSnapshotter makes a snapshotter the default of clients that name none, so
// that an import unpacks where the CRI looks.
func setSnapshotter(ctx context.Context, client *containerd.Client, snapshotter string) error {
	ctx = namespaces.WithNamespace(ctx, image.Namespace)
	store := client.NamespaceService()
	labels, err := store.Labels(ctx, image.Namespace)
	if err == nil && labels[defaults.DefaultSnapshotterNSLabel] == snapshotter {
		return nil
	}
	if err != nil {
		err = store.Create(ctx, image.Namespace, map[string]string{defaults.DefaultSnapshotterNSLabel: snapshotter})
	} else {
		err = store.SetLabel(ctx, image.Namespace, defaults.DefaultSnapshotterNSLabel, snapshotter)
	}
	if err != nil {
		return fmt.Errorf("set containerd's snapshotter: %w", err)
	}
	return nil
}

// startNetwork starts the pod network and, once the Node exists, kube-proxy, which
// would otherwise fail and back off. It leaves out what the operator provides.
func (a *agent) startNetwork(ctx context.Context, started time.Time) error {
	registered := make(chan struct{})
	pods, err := podnet.New(podnet.Options{
		Node: a.cfg.Name, ConfigDir: a.cfg.cniConfigDir(), IPAMDir: a.cfg.files().path("cni", "ipam"),
		Foreign: a.cfg.ContainerRuntimeEndpoint != "", None: a.cfg.CNI == podnet.None,
		Machines: a.cfg.machineAddresses, Registered: func() { close(registered) }, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	a.pods = pods
	if a.cfg.CNI == podnet.None {
		// The node may have had everynode's network before, whose rules and routes
		// would be in the way.
		if err := pods.CleanUp(ctx); err != nil {
			return err
		}
	}
	a.network = supervise(ctx, "pod network", a.cfg.Log, a.fresh.around(func(ctx context.Context) error {
		return pods.Run(ctx, a.cfg.files().kubeconfig())
	}))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-registered:
	}
	a.cfg.Log.Info("node registered", "node", a.cfg.Name, "address", a.cfg.NodeIP, "took", time.Since(started).Round(time.Millisecond))
	if a.cfg.NoKubeProxy {
		return nil
	}
	a.proxy = supervise(ctx, "kube-proxy", a.cfg.Log, a.fresh.around(proxyProcess(a.cfg, a.self).run))
	return nil
}

// stop ends everything in order: first what starts pods, then the pods, then
// what they need.
func (a *agent) stop(ctx context.Context) {
	defer a.forward.stop()
	if a.kubelet == nil { // this machine never became a node
		a.step("containerd", a.stopRuntime)
		return
	}
	a.cfg.Log.Info("stopping", "node", a.cfg.Name, "pods", a.cfg.StopPods)
	a.authorities.stop()
	a.step("kubelet", func() error { a.kubelet.stop(); return nil })
	if a.cfg.StopPods {
		a.step("pods", func() error { return stopPods(ctx, a.cfg.endpoint(), quickly, false) })
	}
	a.step("pod network", func() error {
		a.servers.stop()
		a.network.stop()
		if !a.cfg.StopPods || a.pods == nil {
			return nil // pods that keep running keep their network
		}
		return a.pods.CleanUp(ctx)
	})
	a.step("kube-proxy", func() error { a.proxy.stop(); return nil })
	a.step("containerd", a.stopRuntime)
	a.cfg.Log.Info("stopped", "node", a.cfg.Name)
}

// stopRuntime stops containerd, if the agent has started it, with its second socket
// and the mirror that it pulls from.
func (a *agent) stopRuntime() error {
	a.socket.stop()
	a.containerd.stop()
	a.addons.stop()
	if a.archives == nil {
		return nil
	}
	return a.archives.Close()
}

// step does one part of the stop. When it fails, the next parts still run.
func (a *agent) step(what string, do func() error) {
	started := time.Now()
	if err := do(); err != nil {
		a.cfg.Log.Error("did not stop cleanly", "what", what, "err", err)
	}
	a.cfg.Log.Debug("stopped", "what", what, "took", time.Since(started).Round(time.Millisecond))
}

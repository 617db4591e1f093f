package controlplane

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"everynode/internal/controlplane/pki"
)

// runControllerManager runs Kubernetes' controllers, without the one for
// DaemonSets and with those that bootstrap tokens need, until ctx ends.
// The API server must be ready. loopback may write the CAs that all namespaces trust, which
// Kubernetes' own controller would not update before its process ends.
func runControllerManager(ctx context.Context, s *settings, loopback *rest.Config) error {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("make the options: %w", err)
	}
	known, off, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	if err := parse(o.Flags(known, off, aliases), s.controllerManagerFlags()); err != nil {
		return fmt.Errorf("read the options: %w", err)
	}
	config, err := o.Config(ctx, known, off, aliases)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return s.asLeader(ctx, controllerManagerCert, "kube-controller-manager", func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error {
			if err := app.Run(ctx, config.Complete()); err != nil || ctx.Err() != nil {
				return err
			}
			return errors.New("it ended by itself")
		})
		group.Go(func() error { return publishRootCA(ctx, s.data(), loopback) })
		return group.Wait()
	})
}

// controllerManagerFlags returns the flags of kube-controller-manager.
func (s *settings) controllerManagerFlags() []string {
	file := func(name string) string { return s.path("pki", name) }
	flags := []string{
		"--kubeconfig=" + s.data().kubeconfig(controllerManagerCert),
		// The TTL controller writes an annotation to every node. Kubelets read it only if they cache ConfigMaps and
		// Secrets for a time. Ours watch them, as every kubelet does by default.
		"--controllers=*,-" + names.TTLController + ",-" + names.DaemonSetController + ",-" + names.RootCACertificatePublisherController + "," + names.BootstrapSignerController + "," + names.TokenCleanerController,
		"--secure-port=0",
		"--leader-elect=false", // asLeader elects a leader if there can be more than one server
		"--profiling=false",
		// The default is a directory of the host, which the controller manager would create.
		"--flex-volume-plugin-dir=" + s.path("volume-plugins"),
		"--use-service-account-credentials=true",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + s.podRange.String(),
		"--service-cluster-ip-range=" + s.serviceRange.String(),
		"--root-ca-file=" + file(pki.ClusterAuthorities),
		"--service-account-private-key-file=" + file(pki.ServiceAccountKey),
	}
	for signer, ca := range map[string]string{
		"kubelet-serving": pki.KubeletCA, "kubelet-client": pki.ClusterCA, "kube-apiserver-client": pki.ClusterCA, "legacy-unknown": pki.ClusterCA,
	} {
		flags = append(flags, "--cluster-signing-"+signer+"-cert-file="+file(ca+".crt"), "--cluster-signing-"+signer+"-key-file="+file(ca+".key"))
	}
	return flags
}

// runScheduler runs kube-scheduler until ctx ends. The API server must be ready.
func runScheduler(ctx context.Context, s *settings) error {
	o := scheduleroptions.NewOptions()
	err := parse(*o.Flags, []string{
		"--kubeconfig=" + s.data().kubeconfig(schedulerCert),
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	})
	if err != nil {
		return fmt.Errorf("read the options: %w", err)
	}
	return s.asLeader(ctx, schedulerCert, "kube-scheduler", func(ctx context.Context) error {
		config, sched, err := scheduler.Setup(ctx, o)
		if err != nil {
			return fmt.Errorf("configure: %w", err)
		}
		return scheduler.Run(ctx, config, sched)
	})
}

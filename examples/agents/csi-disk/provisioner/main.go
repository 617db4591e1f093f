// Command csi-provisioner is Kubernetes' external-provisioner with our own main: it has the driver on its node create and
// delete the volumes of that node, and tells the scheduler how much room there is. The original main has many more flags, and
// does not compile with the version of Kubernetes' client that the rest of everynode uses.
//
//	csi-provisioner --driver SOCKET --node NODE --namespace NAMESPACE --pod POD   works, until SIGTERM
//	csi-provisioner ready                                                         says by its exit code whether one works here
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/capacity"
	csicontroller "github.com/kubernetes-csi/external-provisioner/v6/pkg/controller"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	csitranslation "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	// callTimeout limits one call of the driver.
	callTimeout = 10 * time.Second
	// resync is how often everything is looked at again.
	resync = 30 * time.Minute
	// workers is how many volumes are created or deleted at once on a node.
	workers = 4
)

// place is where this provisioner runs, and which driver it calls.
type place struct {
	socket string // of the driver
	node   string
	// pod, in namespace, owns the objects about the node's room.
	namespace, pod string
	// readyFile exists while the provisioner works.
	readyFile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		klog.ErrorS(err, "csi-provisioner ends")
		klog.Flush()
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	var at place
	flags := flag.NewFlagSet("csi-provisioner", flag.ContinueOnError)
	flags.StringVar(&at.socket, "driver", "", "socket of the driver")
	flags.StringVar(&at.node, "node", "", "name of this node")
	flags.StringVar(&at.namespace, "namespace", "", "namespace of this pod")
	flags.StringVar(&at.pod, "pod", "", "name of this pod")
	flags.StringVar(&at.readyFile, "ready-file", "/tmp/ready", "file that is there while the provisioner works")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() == 1 && flags.Arg(0) == "ready":
		return ready(at.readyFile)
	case flags.NArg() > 0:
		return fmt.Errorf("unknown arguments %q: there is only `csi-provisioner ready`", flags.Args())
	case at.socket == "" || at.node == "" || at.namespace == "" || at.pod == "":
		return fmt.Errorf("give --driver, --node, --namespace and --pod: they are %q, %q, %q and %q", at.socket, at.node, at.namespace, at.pod)
	}
	return provision(ctx, at)
}

// ready returns nil if the provisioner beside this process has recorded that it works.
func ready(file string) error {
	_, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the provisioner does not know the cluster's claims, volumes and classes yet: its log says what it waits for, the driver or a right to read them")
	}
	return err
}

// provision handles the claims and volumes of a node until ctx ends. It exits the process if the driver goes away.
func provision(ctx context.Context, at place) error {
	if err := os.Remove(at.readyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take back what the process before this one said: %w", err)
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the API server, which a pod is told of: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client of the API server: %w", err)
	}
	driver, err := connect(ctx, at)
	if err != nil {
		return err
	}
	cluster := informers.NewSharedInformerFactory(client, resync)
	rooms, own, err := newCapacity(ctx, config, client, cluster, at, driver)
	if err != nil {
		return err
	}
	volumes := newController(ctx, client, cluster, driver, rooms)
	for _, f := range []informers.SharedInformerFactory{cluster, own} {
		f.Start(ctx.Done())
		f.WaitForCacheSync(ctx.Done())
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := os.WriteFile(at.readyFile, nil, 0o600); err != nil {
		return fmt.Errorf("note that the provisioner works: %w", err)
	}
	var running sync.WaitGroup
	running.Go(func() { rooms.Run(ctx, 1, nil) })
	volumes.Run(ctx)
	running.Wait()
	return nil
}

// newController watches claims and volumes of the whole cluster, and has those of this node created and deleted.
func newController(ctx context.Context, client kubernetes.Interface, cluster informers.SharedInformerFactory, d *driver, rooms *capacity.Controller) *controller.ProvisionController {
	// After each volume that was created or deleted, the driver is asked how much room is left.
	making := capacity.NewProvisionWrapper(newProvisioner(client, cluster, d), rooms)
	return controller.NewProvisionController(ctx, client, d.name, making,
		controller.LeaderElection(false), // each node's claims have only one provisioner
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
		controller.Threadiness(workers),
		controller.ClaimsInformer(cluster.Core().V1().PersistentVolumeClaims().Informer()),
		controller.VolumesInformer(cluster.Core().V1().PersistentVolumes().Informer()),
		controller.ClassesInformer(cluster.Storage().V1().StorageClasses().Informer()),
		controller.AddFinalizer(true)) // a volume's object stays until its file is deleted
}

// newProvisioner creates and deletes volumes for the claims whose node is the driver's.
func newProvisioner(client kubernetes.Interface, cluster informers.SharedInformerFactory, d *driver) controller.Provisioner {
	nodes, csiNodes := d.listers(client)
	claims := cluster.Core().V1().PersistentVolumeClaims()
	return csicontroller.NewCSIProvisioner(
		client, callTimeout, d.identity(), "pvc", -1, d.conn,
		nil, // no snapshots
		d.name, d.plugin, d.controller,
		"", // it does not replace a driver that was part of Kubernetes
		true, false, csitranslation.New(),
		cluster.Storage().V1().StorageClasses().Lister(), csiNodes, nodes, claims.Lister(),
		nil, nil, // volumes are neither attached nor copied from other namespaces
		false, "ext4",
		&csicontroller.NodeDeployment{NodeName: d.node, ClaimInformer: claims, NodeInfo: d.info},
		false, true, csicontroller.NewInMemoryStore(),
	)
}

// connect waits until the driver is ready, and asks what it can do.
func connect(ctx context.Context, at place) (*driver, error) {
	calls := metrics.NewCSIMetricsManagerWithOptions("", metrics.WithProcessStartTime(false), metrics.WithSubsystem(metrics.SubsystemSidecar))
	conn, err := csicontroller.Connect(ctx, at.socket, calls)
	if err != nil {
		return nil, fmt.Errorf("connect to the driver: %w", err)
	}
	d := &driver{conn: conn, node: at.node}
	if err := csicontroller.Probe(ctx, conn, callTimeout); err != nil {
		return nil, fmt.Errorf("wait for the driver: %w", err)
	}
	if d.name, err = csicontroller.GetDriverName(conn, callTimeout); err != nil {
		return nil, fmt.Errorf("ask the driver for its name: %w", err)
	}
	calls.SetDriverName(d.name)
	if d.plugin, d.controller, err = csicontroller.GetDriverCapabilities(conn, callTimeout); err != nil {
		return nil, fmt.Errorf("ask the driver what it can do: %w", err)
	}
	if d.info, err = csicontroller.GetNodeInfo(conn, callTimeout); err != nil {
		return nil, fmt.Errorf("ask the driver for its node: %w", err)
	}
	return d, nil
}

// Command csi-disk is a CSI driver for the disks of nodes: a volume is a file on its node with a file system in it, as
// large as the claim asks for. One runs on each node, beside Kubernetes' external-provisioner, which calls it for the
// claims of that node. It registers with the kubelet by itself.
//
//	csi-disk         serves, until SIGTERM
//	csi-disk ready   reports by its exit code whether the driver on this node serves and the kubelet has registered it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"k8s.io/klog/v2"
)

// driverName is the driver's name in storage classes and volumes. It must not change while volumes exist.
const driverName = "disk.csi.everynode.io"

// topologyKey labels each node with its own name: a volume is available on one node only.
const topologyKey = driverName + "/node"

// paths are the paths on the node that the driver uses. They are the same in its container.
type paths struct {
	socket       string // of the driver
	registration string // where the kubelet looks for new drivers
	volumes      string // the directory with the volumes' files
}

// pathsBelow returns the paths of a kubelet with the root directory root.
func pathsBelow(root string) paths {
	own := filepath.Join(root, "plugins", driverName)
	return paths{
		socket:       filepath.Join(own, "socket", "csi.sock"),
		registration: filepath.Join(root, "plugins_registry", driverName+"-reg.sock"),
		volumes:      filepath.Join(own, "volumes"),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		klog.ErrorS(err, "csi-disk ends")
		klog.Flush()
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("csi-disk", flag.ContinueOnError)
	node := flags.String("node", "", "name of this node")
	root := flags.String("kubelet-root", "/var/lib/kubelet", "root directory of the kubelet")
	if err := flags.Parse(args); err != nil {
		return err
	}
	at := pathsBelow(*root)
	switch {
	case flags.NArg() == 1 && flags.Arg(0) == "ready":
		return ready(ctx, at.socket)
	case flags.NArg() > 0:
		return fmt.Errorf("unknown arguments %q: there is only `csi-disk ready`", flags.Args())
	case *node == "":
		return errors.New("--node is missing: the name of this node, which a pod has in its field spec.nodeName")
	}
	return serve(ctx, *node, at)
}

package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/node/podnet"
)

// networkFlags adds the flags about the pod network. more is added to their help.
func networkFlags(f *pflag.FlagSet, cni *string, kubeProxy *bool, more string) {
	f.StringVar(cni, localcluster.FlagCNI, podnet.Everynode, "pod network: everynode's own, or none, for one that you install"+more)
	f.BoolVar(kubeProxy, localcluster.FlagKubeProxy, true, "run kube-proxy on the nodes; false: you install it, or what stands in for it"+more)
}

func checkCNI(name string) error {
	if err := podnet.Check(name); err != nil {
		return console.Usage(fmt.Errorf("--%s %s: %w%s", localcluster.FlagCNI, name, err, console.DidYouMean(name, podnet.Names())))
	}
	return nil
}

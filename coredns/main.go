// Command coredns is CoreDNS with the plugins that a cluster's DNS needs, and none that ask the clouds. Its Corefile
// determines what it answers, as always. The order of the plugins is that of CoreDNS.
package main

import (
	"github.com/coredns/coredns/coremain"

	// What kubeadm's Corefile names.
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"

	// What Kubernetes' guide tells to add to it when a name does not resolve, or is to resolve to something else. They
	// are small, and need no library that is not linked already.
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/rewrite"
)

func main() { coremain.Run() }

// Command kubectl-everynode is the kubectl plugin for any cluster: `kubectl everynode`. Under the name everynode-ctl
// it works the same without kubectl, and under kubectl_complete-everynode it completes names for kubectl.
package main

import (
	"os"

	"everynode/internal/cli/plugin"
)

func main() {
	os.Exit(plugin.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // exec and OIDC credentials in kubeconfigs
	componentcli "k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func (a *app) kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [ARGUMENTS]",
		Short: "Stock kubectl, pointed at the cluster of this machine",
		Long: `kubectl as Kubernetes ships it. Unless --kubeconfig or KUBECONFIG says otherwise
it talks to the cluster of this machine (EVERYNODE_DATA_DIR).
A link named kubectl to this binary does the same.`,
		Example: `  everynode kubectl get nodes
  everynode kubectl apply -f examples/node-audit-daemonset.yaml`,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := runKubectl(args, dataDirFromEnv()); code != exitOK {
				return exitStatus(code)
			}
			return nil
		},
	}
}

// runKubectl runs kubectl in this process. kubectl itself ends the process with
// its own exit code when a command of it fails.
func runKubectl(args []string, dataDir string) int {
	os.Args = append([]string{"kubectl"}, args...) // kubectl finds its plugins by os.Args
	config := adminKubeconfig(dataDir)
	if _, err := os.Stat(config); err == nil && usesDefaultConfig(args) {
		if err := os.Setenv("KUBECONFIG", config); err != nil {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
			return exitError
		}
	}
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args)); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return exitUsage
	}
	if err := componentcli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		cmdutil.CheckErr(err)
	}
	return exitOK
}

// usesDefaultConfig says whether neither the environment nor a flag names the
// cluster.
func usesDefaultConfig(args []string) bool {
	if os.Getenv("KUBECONFIG") != "" {
		return false
	}
	for _, arg := range args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--":
			return true
		case "--kubeconfig", "--server", "-s":
			return false
		}
	}
	return true
}

// adminKubeconfig is the file that the control plane writes for its owner.
func adminKubeconfig(dataDir string) string {
	return filepath.Join(dataDir, "admin.kubeconfig")
}

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	componentversion "k8s.io/component-base/version"
)

// version is the version of everynode; the build sets it.
var version = "devel"

func (a *app) versionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of everynode and of the Kubernetes inside",
		Example: "  everynode version -o json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.printVersion(output) },
	}
	a.outputFlag(c, &output)
	return c
}

func (a *app) printVersion(output string) error {
	v := struct {
		Everynode  string `json:"everynode"`
		Kubernetes string `json:"kubernetes"`
		Go         string `json:"go"`
	}{version, componentversion.Get().GitVersion, runtime.Version()}
	return a.print(output, v, func() error {
		_, err := fmt.Fprintf(a.out, "everynode %s, Kubernetes %s, %s\n", v.Everynode, v.Kubernetes, v.Go)
		return err
	})
}

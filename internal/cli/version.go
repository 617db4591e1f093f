package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	componentversion "k8s.io/component-base/version"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

func versionCommand(terminal *console.Console) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of everynode, of the Kubernetes inside, and of the add-ons",
		Example: "  everynode version -o json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return printVersion(terminal, output) },
	}
	console.OutputFlag(c, &output)
	return c
}

// addonVersion is an add-on as `version` prints it.
type addonVersion struct {
	Name    string `json:"name"`
	Program string `json:"program"`
	Version string `json:"version"`
	Image   string `json:"image,omitempty"`
	Default bool   `json:"default"`
}

func printVersion(terminal *console.Console, output string) error {
	v := struct {
		Everynode  string         `json:"everynode"`
		Kubernetes string         `json:"kubernetes"`
		Go         string         `json:"go"`
		Addons     []addonVersion `json:"addons"`
	}{console.Version, componentversion.Get().GitVersion, runtime.Version(), nil}
	for _, addon := range addons.All() {
		v.Addons = append(v.Addons, addonVersion{addon.Name, addon.Program, addon.Version, addon.Image(), addon.Default})
	}
	return terminal.Print(output, v, func() error {
		fmt.Fprintf(terminal.Out, "everynode %s, Kubernetes %s, %s\nAdd-ons:\n", v.Everynode, v.Kubernetes, v.Go)
		table := console.NewTable(terminal.Out)
		for _, addon := range addons.All() {
			when := "--" + localcluster.FlagWith + " " + addon.Name
			if addon.Default {
				when = "on by default"
			}
			table.Row("  "+addon.Name, addon.Program+" "+addon.Version, when, addon.Use)
		}
		return table.Flush()
	})
}

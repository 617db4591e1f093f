package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
)

// addonFlags are the flags that choose a cluster's add-ons.
type addonFlags struct {
	with, without []string
	bare          bool
}

// newAddonFlags adds the flags to f. usual are the add-ons that a cluster gets without
// these flags.
func newAddonFlags(f *pflag.FlagSet, usual []addons.Addon) *addonFlags {
	var o addonFlags
	f.StringSliceVar(&o.with, localcluster.FlagWith, nil, "add-ons to have as well: "+strings.Join(addons.Names(addons.All()), ", "))
	f.StringSliceVar(&o.without, localcluster.FlagWithout, nil, "add-ons to leave out (usual are "+strings.Join(addons.Names(usual), ", ")+")")
	f.BoolVar(&o.bare, "bare", false, "no add-on but those of --"+localcluster.FlagWith)
	return &o
}

// choice returns, by name, whether each add-on that the flags name is on. It has no
// entry for the others.
func (o *addonFlags) choice() (map[string]bool, error) {
	said := map[string]bool{}
	if o.bare {
		for _, name := range addons.Names(addons.All()) {
			said[name] = false
		}
	}
	for _, list := range []struct {
		flag  string
		names []string
		on    bool
	}{{localcluster.FlagWithout, o.without, false}, {localcluster.FlagWith, o.with, true}} {
		for _, name := range list.names {
			if err := knownAddon(name); err != nil {
				return nil, console.Usage(fmt.Errorf("--%s %s: %w", list.flag, name, err))
			}
			if list.on && slices.Contains(o.without, name) {
				return nil, console.Usage(fmt.Errorf("--%s and --%s both name %s: leave out one of them", localcluster.FlagWith, localcluster.FlagWithout, name))
			}
			said[name] = list.on
		}
	}
	return said, nil
}

// noneOnHost returns an error if the choice for a lone server includes an add-on that
// only `everynode up` starts.
func noneOnHost(choice map[string]bool) error {
	for _, addon := range addons.All() {
		if addon.OnHost && choice[addon.Name] {
			return console.Usage(fmt.Errorf("--%s %s: it is a process of its own, which only `everynode up` starts: leave it out", localcluster.FlagWith, addon.Name))
		}
	}
	return nil
}

func knownAddon(name string) error {
	names := addons.Names(addons.All())
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("there is no such add-on; known are %s%s", strings.Join(names, ", "), console.DidYouMean(name, names))
}

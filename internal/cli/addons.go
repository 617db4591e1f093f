package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
)

const (
	withFlag    = "with"
	withoutFlag = "without"
	// addonDeadline bounds the look at the add-ons of a cluster that runs.
	addonDeadline = 10 * time.Second
)

// addonFlags are the add-ons that a cluster is to have, as they were asked for.
type addonFlags struct {
	with, without []string
	bare          bool
}

// newAddonFlags adds the flags to f. usual are the add-ons that there are without them.
func newAddonFlags(f *pflag.FlagSet, usual []addons.Addon) *addonFlags {
	var o addonFlags
	f.StringSliceVar(&o.with, withFlag, nil, "add-ons to have as well: "+strings.Join(addons.Names(addons.All()), ", "))
	f.StringSliceVar(&o.without, withoutFlag, nil, "add-ons to leave out (usual are "+strings.Join(addons.Names(usual), ", ")+")")
	f.BoolVar(&o.bare, "bare", false, "no add-on but those of --"+withFlag)
	return &o
}

// choice is what was said of each add-on, by name; of the others nothing was.
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
	}{{withoutFlag, o.without, false}, {withFlag, o.with, true}} {
		for _, name := range list.names {
			if err := knownAddon(name); err != nil {
				return nil, console.Usage(fmt.Errorf("--%s %s: %w", list.flag, name, err))
			}
			if list.on && slices.Contains(o.without, name) {
				return nil, console.Usage(fmt.Errorf("--%s and --%s both name %s: leave out one of them", withFlag, withoutFlag, name))
			}
			said[name] = list.on
		}
	}
	return said, nil
}

// noneOnHost refuses for a server alone what only `everynode up` starts.
func noneOnHost(choice map[string]bool) error {
	for _, addon := range addons.All() {
		if addon.OnHost && choice[addon.Name] {
			return console.Usage(fmt.Errorf("--%s %s: it is a process of its own, which only `everynode up` starts: leave it out", withFlag, addon.Name))
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

// chooseAddons records which add-ons the cluster is to have. A control plane that
// runs keeps what it was started with.
func (m *machine) chooseAddons(said map[string]bool) error {
	choice := maps.Clone(m.Addons)
	if choice == nil {
		choice = map[string]bool{}
	}
	maps.Copy(choice, said)
	before, after := addons.Names(addons.Chosen(m.Addons)), addons.Names(addons.Chosen(choice))
	if _, runs := datadir.Running(m.serverLock()); runs && !slices.Equal(before, after) {
		return fmt.Errorf("the control plane runs with the add-ons %s: stop it with `everynode down` to change that", listed(before))
	}
	if slices.Contains(before, addons.Registry) != slices.Contains(after, addons.Registry) && m.nodeRuns() {
		return errOtherRegistries
	}
	if err := m.checkArchives(said); err != nil {
		return err
	}
	m.Addons = choice
	if m.hasRegistry() {
		return m.ChooseRegistryPort()
	}
	return nil
}

// archive is what has been built of an add-on.
func (m *machine) archive(a addons.Addon) string {
	return filepath.Join(m.runtimeDir, "addons", a.Archive)
}

func (m *machine) isBuilt(a addons.Addon) bool {
	_, err := os.Stat(m.archive(a))
	return !errors.Is(err, fs.ErrNotExist)
}

// checkArchives says what to build of the add-ons that were asked for by name.
func (m *machine) checkArchives(said map[string]bool) error {
	for _, a := range addons.All() {
		if said[a.Name] && !m.isBuilt(a) {
			return fmt.Errorf("--%s %s: %s has not been built, and would be %s: build it with `make addons`", withFlag, a.Name, a.Program, m.archive(a))
		}
	}
	return nil
}

// unbuilt are warnings about add-ons whose pods will not start for want of an image:
// those that are on without anybody having named them.
func (m *machine) unbuilt() (warnings []string) {
	for _, a := range m.addons() {
		if a.Elsewhere() || m.isBuilt(a) {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("the add-on %s will not work: %s has not been built, and is nowhere to be had; it would be %s. Build it with `make addons`, or leave it out with `everynode up --%s %s`",
			a.Name, a.Program, m.archive(a), withoutFlag, a.Name))
	}
	return warnings
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// addons are those that the control plane makes in the cluster. One that can have no
// nodes has nobody to run them.
func (m *machine) addons() []addons.Addon {
	if m.Loopback {
		return nil
	}
	return addons.Chosen(m.Addons)
}

// hasDNS says whether the cluster has a DNS of ours.
func (m *machine) hasDNS() bool { return slices.Contains(addons.Names(m.addons()), addons.DNS) }

// addonArgs tell `everynode server` of the add-ons.
func (m *machine) addonArgs() []string {
	args := []string{"--bare"}
	onHost := func(a addons.Addon) bool { return a.OnHost }
	if names := addons.Names(slices.DeleteFunc(m.addons(), onHost)); len(names) > 0 {
		args = append(args, "--"+withFlag, strings.Join(names, ","))
	}
	return args
}

// mendAddons makes again what somebody has deleted of the add-ons since the control
// plane, which runs, has started. The cluster is of use without it, so that it
// cannot be done is only told.
func (s *starting) mendAddons(ctx context.Context) {
	s.makeAddons(ctx, s.cluster.addons())
}

// makeAddons makes what is missing of some add-ons.
func (s *starting) makeAddons(ctx context.Context, list []addons.Addon) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, addonDeadline)
	defer cancel()
	config, err := adminConfig(s.cluster.DataDir)
	if err != nil {
		fmt.Fprintf(s.err, "warning: the add-ons are not known to be complete: %v\n", err)
		return
	}
	for _, addon := range list {
		made, err := controlplane.MakeAddon(ctx, config, addon, controlplane.AddonCluster{DataDir: s.cluster.DataDir, Services: s.cluster.ServiceCIDR, Registry: s.cluster.RegistryHost()})
		if err != nil {
			fmt.Fprintf(s.err, "warning: the add-on %s is not known to be complete: %v\n", addon.Name, err)
		}
		if len(made) > 0 {
			fmt.Fprintf(s.out, "Of the add-on %s this was missing, and is there again: %s.\n", addon.Name, strings.Join(made, ", "))
		}
	}
}

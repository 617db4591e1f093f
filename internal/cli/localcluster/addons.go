package localcluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"everynode/internal/addons"
	"everynode/internal/controlplane"
)

// addonDeadline limits how long it may take to check the add-ons of a running cluster.
const addonDeadline = 10 * time.Second

// addOns are the add-ons that are on in a cluster, and the folder with the archives that were built of them.
type addOns struct {
	on  []addons.Addon
	dir string
}

// addons are the cluster's add-ons. A cluster on loopback has none: it has no nodes to run them.
func (c *Cluster) addons() addOns {
	list := addOns{dir: filepath.Join(c.runtimeDir, "addons")}
	if !c.Loopback {
		list.on = addons.Chosen(c.Addons)
	}
	return list
}

// archive is the path of an add-on's archive, which `make addons` builds.
func (l addOns) archive(a addons.Addon) string { return filepath.Join(l.dir, a.Archive) }

func (l addOns) isBuilt(a addons.Addon) bool {
	_, err := os.Stat(l.archive(a))
	return !errors.Is(err, fs.ErrNotExist)
}

// checkArchives returns an error if the user asked by name for an add-on that has not been built.
func (l addOns) checkArchives(said map[string]bool) error {
	for _, a := range addons.All() {
		if said[a.Name] && !l.isBuilt(a) {
			return fmt.Errorf("--%s %s: %s has not been built, and would be %s: build it with `make addons`", FlagWith, a.Name, a.Program, l.archive(a))
		}
	}
	return nil
}

// unbuilt returns warnings about add-ons that are on and whose pods will not start because an image is missing.
func (l addOns) unbuilt() (warnings []string) {
	for _, a := range l.on {
		if a.Elsewhere() || l.isBuilt(a) {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("the add-on %s will not work: %s has not been built, and cannot be pulled from anywhere; it would be %s. Build it with `make addons`, or leave it out with `everynode up --%s %s`",
			a.Name, a.Program, l.archive(a), FlagWithout, a.Name))
	}
	return warnings
}

// find returns the add-on of this name, if it is on.
func (l addOns) find(name string) (addons.Addon, bool) {
	for _, a := range l.on {
		if a.Name == name {
			return a, true
		}
	}
	return addons.Addon{}, false
}

// has reports whether the add-on of this name is on.
func (l addOns) has(name string) bool {
	_, has := l.find(name)
	return has
}

// args are the arguments that choose these add-ons for `everynode server`.
func (l addOns) args() []string {
	args := []string{"--bare"}
	onHost := func(a addons.Addon) bool { return a.OnHost }
	if names := addons.Names(slices.DeleteFunc(slices.Clone(l.on), onHost)); len(names) > 0 {
		args = append(args, "--"+FlagWith, strings.Join(names, ","))
	}
	return args
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// MendAddons creates objects of the add-ons that somebody has deleted since the running control plane started. The
// cluster is useful without them, so a failure is only a warning.
func (s *Starting) MendAddons(ctx context.Context) {
	s.makeAddons(ctx, s.cluster.addons().on)
}

// makeAddons creates the objects of some add-ons that are missing.
func (s *Starting) makeAddons(ctx context.Context, list []addons.Addon) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, addonDeadline)
	defer cancel()
	config, err := AdminConfig(s.cluster.DataDir)
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

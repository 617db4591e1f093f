package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
)

// settleTime is how long the kernel, or Kubernetes, may take to release what was
// removed.
const settleTime = 10 * time.Second

// traces is what a cluster could leave on a machine: names by kind, and the values of
// kernel settings.
type traces struct {
	names   map[string][]string
	sysctls map[string]string
}

// leftovers records what exists on this machine, or on one of the script's, and later
// reports what has been added since.
func leftovers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 || args[0] != "before" && args[0] != "after" {
		ts.Fatalf("usage: leftovers before|after [MACHINE]")
	}
	c, name := clusterOf(ts), ""
	look := c.traces
	if len(args) == 2 {
		name = args[1]
		look = func() (t traces, err error) {
			err = c.onMachine(name, func(pid int) (err error) {
				t, err = tracesBy(func() ([]string, error) { return processesWith(pid) })
				return err
			})
			return t, err
		}
	}
	if args[0] == "before" {
		now, err := look()
		ts.Check(err)
		if c.marked == nil {
			c.marked = map[string]traces{}
		}
		c.marked[name] = now
		return
	}
	before, ok := c.marked[name]
	if !ok {
		ts.Fatalf("leftovers before comes first")
	}
	ts.Check(waitForTraces(before, look))
}

// waitForTraces waits until nothing exists that did not exist before.
func waitForTraces(before traces, look func() (traces, error)) error {
	return settled(look, func(now traces) error { return now.beyond(before) })
}

// settled calls look until wrong finds nothing wrong with the result, for as long as
// the machine or the cluster may take to release things.
func settled(look func() (traces, error), wrong func(traces) error) error {
	deadline := time.Now().Add(settleTime)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		now, err := look()
		if err != nil {
			return err
		}
		if err = wrong(now); err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

// unlike returns an error about what is in t but not in before, and the other way
// round.
func (t traces) unlike(before traces) error {
	gone := before.beyond(t)
	if gone != nil {
		gone = fmt.Errorf("no longer there: %w", gone)
	}
	return errors.Join(t.beyond(before), gone)
}

// beyond returns an error about what is in t but not in before.
func (t traces) beyond(before traces) error {
	var errs []error
	for _, kind := range slices.Sorted(maps.Keys(t.names)) {
		for _, name := range t.names[kind] {
			if !slices.Contains(before.names[kind], name) {
				errs = append(errs, fmt.Errorf("%s: %s", kind, name))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.sysctls)) {
		if was, ok := before.sysctls[name]; ok && was != t.sysctls[name] {
			errs = append(errs, fmt.Errorf("sysctl %s: %q, it was %q", name, t.sysctls[name], was))
		}
	}
	return errors.Join(errs...)
}

func (c *cluster) traces() (traces, error) {
	t, err := tracesBy(c.processNames)
	hidden, hiddenErr := c.hiddenMounts()
	t.names["hidden mount"] = hidden
	return t, errors.Join(err, hiddenErr)
}

// tracesBy collects traces as the calling thread sees them.
func tracesBy(processNames func() ([]string, error)) (traces, error) {
	t := traces{names: map[string][]string{}}
	var errs []error
	for kind, list := range map[string]func() ([]string, error){
		"process":   processNames,
		"mount":     mounts,
		"loop":      loopDevices,
		"link":      links,
		"route":     routes,
		"nft table": nftTables,
		"cgroup":    cgroups,
		"path":      paths,
	} {
		names, err := list()
		if err != nil {
			errs = append(errs, fmt.Errorf("list every %s: %w", kind, err))
		}
		t.names[kind] = names
	}
	var err error
	t.sysctls, err = sysctls()
	return t, errors.Join(append(errs, err)...)
}

func (c *cluster) processNames() ([]string, error) {
	pids, err := c.everything()
	var names []string
	for _, pid := range pids {
		names = append(names, fmt.Sprintf("%d %s", pid, strings.Join(arguments(pid), " ")))
	}
	return names, err
}

// mounts lists the mount points of this machine, and what is mounted there.
func mounts() ([]string, error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	return mountPoints(string(text)), err
}

func mountPoints(mountinfo string) []string {
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if dash := slices.Index(fields, "-"); dash > 4 && dash+1 < len(fields) {
			points = append(points, fields[4]+" "+fields[dash+1])
		}
	}
	return points
}

// loopDevices lists the loop devices of this machine that are in use, each with its
// file.
func loopDevices() ([]string, error) {
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	var used []string
	for _, attribute := range found {
		file, err := os.ReadFile(attribute)
		if err != nil {
			continue // it was released
		}
		used = append(used, strings.Split(attribute, "/")[3]+" "+strings.TrimSpace(string(file)))
	}
	return used, err
}

// hiddenMounts lists mounts below the cluster's data directory that exist only in other
// mount namespaces. They would keep namespaces and files alive.
func (c *cluster) hiddenMounts() ([]string, error) {
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			continue // it has ended
		}
		for _, point := range mountPoints(string(text)) {
			if strings.HasPrefix(point, c.dataDir) {
				found = append(found, point)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func links() ([]string, error) {
	list, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) { // links came or went meanwhile
		list, err = netlink.LinkList()
	}
	var names []string
	for _, l := range list {
		names = append(names, l.Attrs().Name)
	}
	return names, err
}

func routes() ([]string, error) {
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		list, err = netlink.RouteList(nil, netlink.FAMILY_V4)
	}
	var all []string
	for _, r := range list {
		all = append(all, r.String())
	}
	return all, err
}

func nftTables() ([]string, error) {
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

// cgroups lists the top level of the cgroup tree, or of each tree where the machine has
// one for each controller.
func cgroups() ([]string, error) {
	const root = "/sys/fs/cgroup"
	pattern := root + "/*/*"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		pattern = root + "/*"
	}
	found, err := filepath.Glob(pattern)
	return slices.DeleteFunc(found, func(path string) bool {
		info, err := os.Lstat(path)
		return err != nil || !info.IsDir()
	}), err
}

// paths lists the files in the places where programs leave things. Of the folder of
// named network namespaces it lists the contents, because `machine` makes the folder,
// too. /run/mount is the lock folder of the programs mount and umount, which the
// scripts call as kubelet does.
func paths() ([]string, error) {
	var all []string
	for _, pattern := range []string{"/run/*", "/run/netns/*", "/var/lib/*", "/var/log/*", "/etc/*", "/opt/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	known := append(examplePaths(), "/run/netns", "/run/mount")
	return slices.DeleteFunc(all, func(path string) bool { return slices.Contains(known, path) }), nil
}

// examplePaths returns where the examples keep data on nodes that `up` did not make.
// These nodes share this machine's /var/lib. The data belongs to the user who asked for
// it, and no command of everynode deletes it.
func examplePaths() []string { return []string{"/var/lib/ssd-cache-api"} }

// sysctls reads every kernel setting that can be read, except those that change by
// themselves or belong to one network interface.
func sysctls() (map[string]string, error) {
	const root = "/proc/sys"
	moving := []string{
		"debug", "fs/binfmt_misc", "fs/dentry-state", "fs/file-nr", "fs/inode-nr", "fs/inode-state", "fs/aio-nr", "fs/quota",
		"kernel/random", "kernel/ns_last_pid", "kernel/pty/nr", "kernel/perf_event_max_sample_rate", "kernel/tainted",
		"net/netfilter/nf_conntrack_count", "net/ipv4/conf", "net/ipv4/neigh", "net/ipv6/conf", "net/ipv6/neigh", "sunrpc", "user",
	}
	values := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone, or nobody may read it
		}
		name := strings.TrimPrefix(path, root+"/")
		if d.IsDir() {
			if slices.Contains(moving, name) {
				return fs.SkipDir
			}
			return nil
		}
		if slices.Contains(moving, name) {
			return nil
		}
		if text, err := os.ReadFile(path); err == nil {
			values[name] = strings.TrimSpace(string(text))
		}
		return nil
	})
	for _, conf := range []string{"net/ipv4/conf/all", "net/ipv4/conf/default", "net/ipv6/conf/all", "net/ipv6/conf/default"} {
		files, globErr := filepath.Glob(filepath.Join(root, conf, "*"))
		err = errors.Join(err, globErr)
		for _, file := range files {
			if text, readErr := os.ReadFile(file); readErr == nil {
				values[strings.TrimPrefix(file, root+"/")] = strings.TrimSpace(string(text))
			}
		}
	}
	return values, err
}

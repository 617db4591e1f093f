package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"everynode/internal/sysctl"
)

// sharedLimit is a limit that the kernel counts for each user of the whole machine. Nearly everything in nodes runs
// as root, so all nodes share what one machine would have alone.
type sharedLimit struct {
	name    string // path below /proc/sys
	perNode int
	runsOut string // what happens when it is reached
}

func sharedLimits() []sharedLimit {
	return []sharedLimit{
		{"fs/inotify/max_user_instances", 512, `programs that watch files fail with "too many open files"`},
		{"fs/inotify/max_user_watches", 65536, `programs that watch files fail with "no space left on device"`},
	}
}

// enough is the limit for that many nodes. The machine itself counts as one more.
func (l sharedLimit) enough(nodes int) int { return l.perNode * (nodes + 1) }

// wantedFiles is how many files a container should be able to open. A container inherits that limit.
const wantedFiles = 65536

// raiseLimits makes the shared limits large enough for the nodes of this cluster and of the others that are up
// here. It lowers no limit, and leaves those that it may not change. Warnings reports these.
func (h *Host) raiseLimits(ctx context.Context) error {
	return withHostRecord(ctx, func(r *hostRecord) error {
		others, err := filepath.Glob(filepath.Join(hostRunDir, "*", "*", "net"))
		if err != nil {
			return err
		}
		others = slices.DeleteFunc(others, func(pin string) bool { return below(pin, h.cluster.runDir()) })
		return r.raise(sharedLimits(), len(h.cluster.Nodes)+len(others))
	})
}

// raisedLimit is what the record of the machine says about a limit that everynode has raised.
type raisedLimit struct {
	Name string `json:"name"`
	Was  int    `json:"was"` // the last value that everynode did not set
	Set  []int  `json:"set"` // everynode's values, the current one last: more nodes need more
}

// raise raises limits that are too low for that many nodes. It records each before it changes it.
func (r *hostRecord) raise(limits []sharedLimit, nodes int) error {
	var errs []error
	for _, l := range limits {
		now, err := readLimit(l.name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now >= l.enough(nodes) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.noteRaise(l.name, now, l.enough(nodes))
		if err := r.write(); err != nil {
			return err
		}
		err = sysctl.Write(l.name, strconv.Itoa(l.enough(nodes)))
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// noteRaise notes that a limit is about to be raised.
func (r *hostRecord) noteRaise(name string, now, next int) {
	i := slices.IndexFunc(r.Limits, func(l raisedLimit) bool { return l.Name == name })
	if i < 0 {
		r.Limits = append(r.Limits, raisedLimit{Name: name, Was: now, Set: []int{next}})
		return
	}
	l := &r.Limits[i]
	if now != l.Was && !slices.Contains(l.Set, now) {
		l.Was, l.Set = now, nil // somebody else has set it since then
	}
	l.Set = append(l.Set, next)
}

// restoreLimits restores the old values of limits, except those that someone else has changed since.
func (r *hostRecord) restoreLimits() error {
	var errs []error
	for _, l := range r.Limits {
		now, err := readLimit(l.Name)
		if err == nil && slices.Contains(l.Set, now) {
			err = sysctl.Write(l.Name, strconv.Itoa(l.Was))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func readLimit(name string) (int, error) {
	text, err := sysctl.Read(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("read the kernel setting %s: %w", name, err)
	}
	return n, nil
}

// limitWarnings returns which limits are too low for that many nodes and cannot be raised from here.
func limitWarnings(limits []sharedLimit, nodes int) ([]string, error) {
	var warnings []string
	for _, l := range limits {
		now, err := readLimit(l.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if want := l.enough(nodes); now < want {
			warnings = append(warnings, fmt.Sprintf("All nodes together have %s = %d, which cannot be changed from here: when it runs out, %s. "+
				"Raise it on the machine itself: echo %d > %s/%s", l.name, now, l.runsOut, want, sysctl.Root, l.name))
		}
	}
	w, err := filesWarning()
	if w != "" {
		warnings = append(warnings, w)
	}
	return warnings, err
}

// filesWarning returns a warning if containers will not be able to open as many files as on other nodes. Agents
// raise the limit that containers inherit if they may: they have this process's capabilities.
func filesWarning() (string, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", fmt.Errorf("read the limit of open files: %w", err)
	}
	held, err := capabilities()
	if err != nil || limit.Max >= wantedFiles || held(unix.CAP_SYS_RESOURCE) {
		return "", err
	}
	return fmt.Sprintf("A container can open at most %d files: this is the hard limit of the shell or service that runs everynode up, "+
		"and it cannot be raised from here. For more, run everynode down, and everynode up where `ulimit -Hn` prints %d or more "+
		"(LimitNOFILE= of a service)", limit.Max, wantedFiles), nil
}

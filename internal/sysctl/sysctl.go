// Package sysctl reads and writes settings of the kernel, and gives back those that everynode has changed. Names are
// paths below /proc/sys. Settings of the network are those of the calling thread's network namespace.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// Root is where the kernel shows its settings.
	Root = "/proc/sys"
	// IPForward turns the forwarding of packets on.
	IPForward = "net/ipv4/ip_forward"
)

// Setting is one setting, as it was before it was changed.
type Setting struct {
	Name string `json:"name"`
	Was  string `json:"was"`
	// Ours is the value that everynode, or a kubelet that it runs, sets. Empty for settings that the kernel changes
	// along with ip_forward: those are restored with it.
	Ours string `json:"ours,omitempty"`
}

// OfNode returns the settings that a node changes: the kubelet writes all but ip_forward.
func OfNode() []Setting {
	return []Setting{
		{Name: "vm/overcommit_memory", Ours: "1"},
		{Name: "vm/panic_on_oom", Ours: "0"},
		{Name: "kernel/panic", Ours: "10"},
		{Name: "kernel/panic_on_oops", Ours: "1"},
		{Name: "kernel/keys/root_maxkeys", Ours: "1000000"},
		{Name: "kernel/keys/root_maxbytes", Ours: "25000000"},
		{Name: IPForward, Ours: "1"},
	}
}

// Read reads a setting.
func Read(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(Root, name))
	if err != nil {
		return "", fmt.Errorf("read the kernel setting %s: %w", name, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// Write sets a setting, unless it has that value.
func Write(name, value string) error {
	if now, err := Read(name); err == nil && now == value {
		return nil
	} else if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(Root, name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set the kernel setting %s to %s: %w", name, value, err)
	}
	return nil
}

// Save returns settings with their present values, and those that change along with ip_forward. What this kernel
// lacks is left out: it is not changed either.
func Save(settings []Setting) ([]Setting, error) {
	var saved []Setting
	for _, s := range settings {
		was, err := Read(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Was = was
		saved = append(saved, s)
	}
	forwarding, err := Forwarding()
	return append(saved, forwarding...), err
}

// Forwarding lists the settings that the kernel overwrites when ip_forward changes.
func Forwarding() ([]Setting, error) {
	files, err := filepath.Glob(filepath.Join(Root, "net/ipv4/conf/*/forwarding"))
	if err != nil {
		return nil, err
	}
	names := []string{"net/ipv4/conf/all/accept_redirects"}
	for _, f := range files {
		if filepath.Base(filepath.Dir(f)) != "all" { // that one is ip_forward itself
			names = append(names, strings.TrimPrefix(f, Root+"/"))
		}
	}
	var saved []Setting
	for _, name := range names {
		was, err := Read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its link has just gone
		}
		if err != nil {
			return nil, err
		}
		saved = append(saved, Setting{Name: name, Was: was})
	}
	return saved, nil
}

// Restore gives settings their old values, except those that someone else has changed since. It leaves ip_forward on if
// others may rely on it by now: warning then says who, and what to do.
func Restore(settings []Setting) (warning string, err error) {
	var errs []error
	forwardRestored := false
	for _, s := range settings {
		now, err := Read(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if now == s.Was || s.Ours != "" && now != s.Ours || s.Ours == "" && !forwardRestored {
			continue
		}
		if s.Name == IPForward {
			links, err := relying(settings)
			errs = append(errs, err)
			if len(links) > 0 {
				warning = fmt.Sprintf("ip_forward was off and stays on, because others may need it by now (%s); if not: sysctl -w net.ipv4.ip_forward=%s", strings.Join(links, ", "), s.Was)
			}
			if forwardRestored = err == nil && len(links) == 0; !forwardRestored {
				continue
			}
		}
		errs = append(errs, Write(s.Name, s.Was))
	}
	return warning, errors.Join(errs...)
}

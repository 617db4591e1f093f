// Command manual writes the manual pages and the shell completions of everynode and of the kubectl plugin, for
// packages.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"everynode/internal/cli"
	"everynode/internal/cli/console"
	"everynode/internal/cli/plugin"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manual DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	everynode, alone := cli.Root(), plugin.AloneRoot()
	for _, root := range []*cobra.Command{everynode, plugin.Root()} {
		if err := writePages(root, dir); err != nil {
			return fmt.Errorf("manual of %s: %w", root.Name(), err)
		}
	}
	for _, root := range []*cobra.Command{everynode, alone} {
		if err := writeCompletions(root, dir); err != nil {
			return fmt.Errorf("completion of %s: %w", root.Name(), err)
		}
	}
	return nil
}

// writePages writes a page for each command. Their date is SOURCE_DATE_EPOCH.
func writePages(root *cobra.Command, dir string) error {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	date := time.Unix(seconds, 0).UTC()
	forAnyMachine(root)
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "everynode " + console.Version, Date: &date}, dir)
}

// forAnyMachine replaces default values of flags that are specific to this machine.
func forAnyMachine(c *cobra.Command) {
	c.DisableAutoGenTag = true
	host, _ := os.Hostname() // if it is "", it is not in any default
	exe, _ := os.Executable()
	c.Flags().VisitAll(func(f *pflag.Flag) {
		switch {
		case host != "" && f.DefValue == host:
			f.DefValue = "the name of the machine"
		case strings.HasPrefix(f.DefValue, filepath.Dir(exe)):
			f.DefValue = "beside the program"
		}
	})
	for _, sub := range c.Commands() {
		forAnyMachine(sub)
	}
}

func writeCompletions(root *cobra.Command, dir string) error {
	to := filepath.Join(dir, root.Name())
	if err := root.GenBashCompletionFileV2(to+".bash", true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(to + ".zsh"); err != nil {
		return err
	}
	return root.GenFishCompletionFile(to+".fish", true)
}

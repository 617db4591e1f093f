package cli

import (
	"github.com/spf13/cobra"

	"everynode/internal/local"
)

// enterCommand runs a program inside a node. `up` starts the agents with it.
func enterCommand() *cobra.Command {
	var pins, cgroup string
	c := &cobra.Command{
		Use: "enter --pins DIR --cgroup PATH -- PROGRAM [ARGUMENTS]", Hidden: true,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, argv []string) error { return local.Enter(pins, cgroup, argv) },
	}
	c.Flags().StringVar(&pins, "pins", "", "folder with the node's pinned namespaces")
	c.Flags().StringVar(&cgroup, "cgroup", "", "cgroup to move to first")
	return c
}

// becomeCommand runs another program under a lock of ours, so that commands can see that it
// runs.
func becomeCommand() *cobra.Command {
	var lock string
	c := &cobra.Command{
		Use: "become --lock FILE -- PROGRAM [ARGUMENTS]", Hidden: true,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, argv []string) error { return local.Become(lock, argv) },
	}
	c.Flags().StringVar(&lock, "lock", "", "file to lock first")
	return c
}

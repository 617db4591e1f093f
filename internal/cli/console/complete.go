package console

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// CompleteWords makes shells offer words for a flag. Where the flag takes a list, they offer what it lacks.
func CompleteWords(c *cobra.Command, flag string, words []string) {
	CompleteFlag(c, flag, func(c *cobra.Command, _ []string, typed string) (offered []string, _ cobra.ShellCompDirective) {
		before := ""
		if _, list := c.Flag(flag).Value.(pflag.SliceValue); list {
			before = typed[:strings.LastIndex(typed, ",")+1]
		}
		for _, word := range words {
			if !slices.Contains(strings.Split(before, ","), word) {
				offered = append(offered, before+word)
			}
		}
		return offered, cobra.ShellCompDirectiveNoFileComp
	})
}

// CompleteFlag makes shells offer what complete returns for a flag.
func CompleteFlag(c *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // only if there is no such flag
	}
}

// completeNothing keeps shells from offering the names of files to commands that take no arguments. check is the check of
// the arguments.
func completeNothing(c *cobra.Command, check cobra.PositionalArgs) {
	if c.ValidArgsFunction == nil && check(c, nil) == nil && check(c, []string{"x"}) != nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
}

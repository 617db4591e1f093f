package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// outputFlag adds -o to a command that has something to read.
func (a *app) outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "", `"json", or nothing for people`)
	complete := cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp)
	if err := c.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // only for a flag that does not exist
	}
}

// print writes value as JSON, or calls text.
func (a *app) print(output string, value any, text func() error) error {
	switch output {
	case "":
		return text()
	case "json":
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(value)
	default:
		return usageError{fmt.Errorf("-o %s: only json is known", output)}
	}
}

// table prints columns as kubectl does.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, header ...string) table {
	t := table{tabwriter.NewWriter(out, 6, 4, 3, ' ', 0)}
	t.row(header...)
	return t
}

func (t table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t table) flush() error { return t.w.Flush() }

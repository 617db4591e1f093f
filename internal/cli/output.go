package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// outputFlag adds -o to a command that has something to read.
func (a *app) outputFlag(c *cobra.Command, output *string) {
	c.Flags().VarP((*outputFormat)(output), "output", "o", `"json", or nothing for people`)
	complete := cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp)
	if err := c.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // only for a flag that does not exist
	}
}

// outputFormat is a flag's value that refuses what cannot be printed before
// anything is done.
type outputFormat string

func (o *outputFormat) String() string { return string(*o) }

// Set takes what the user typed after -o.
func (o *outputFormat) Set(value string) error {
	if value != "json" {
		return errors.New("only json is known")
	}
	*o = outputFormat(value)
	return nil
}

// Type is what --help shows for the value.
func (o *outputFormat) Type() string { return "string" }

// print writes value as JSON, or calls text.
func (a *app) print(output string, value any, text func() error) error {
	if output == "" {
		return text()
	}
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(value)
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

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputFlag adds -o to a command that has something to read: json, yaml, and
// what else the command knows.
func (a *app) outputFlag(c *cobra.Command, output *string, more ...string) {
	known := append(more, "json", "yaml")
	usage := strings.Join(known, ", ") + ", or nothing for people"
	c.Flags().VarP(&oneOf{output, known}, "output", "o", usage)
	complete := cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)
	if err := c.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // only for a flag that does not exist
	}
}

// oneOf is a flag's value that refuses words that are not known before anything is
// done.
type oneOf struct {
	to    *string
	known []string
}

func (o *oneOf) String() string { return *o.to }

// Set takes what the user typed.
func (o *oneOf) Set(value string) error {
	if !slices.Contains(o.known, value) {
		return fmt.Errorf("known are %s%s", strings.Join(o.known, ", "), didYouMean(value, o.known))
	}
	*o.to = value
	return nil
}

// Type is what --help shows for the value.
func (o *oneOf) Type() string { return "string" }

// print writes value as JSON or YAML, or calls text.
func (a *app) print(output string, value any, text func() error) error {
	switch output {
	case "":
		out := a.out
		a.out = plain{out}
		defer func() { a.out = out }()
		return text()
	case "yaml":
		data, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
		_, err = a.out.Write(data)
		return err
	default:
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
}

// The widths of a table's cells.
const (
	tableMinCell = 6
	tablePadding = 3
)

// table prints columns as kubectl does.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, header ...string) table {
	t := table{tabwriter.NewWriter(out, tableMinCell, 4, tablePadding, ' ', 0)}
	t.row(header...)
	return t
}

func (t table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t table) flush() error { return t.w.Flush() }

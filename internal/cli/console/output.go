package console

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// OutputFlag adds -o to a command that prints something: json, yaml, and more formats
// that the command has.
func OutputFlag(c *cobra.Command, output *string, more ...string) {
	known := append(more, "json", "yaml")
	usage := strings.Join(known, ", ") + ", or nothing for people"
	c.Flags().VarP(&oneOf{output, known}, "output", "o", usage)
	complete := cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)
	if err := c.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // only if there is no such flag
	}
}

// OneOf is a flag's value that must be one of the known words. Others are refused
// when the flag is set.
func OneOf(to *string, known []string) pflag.Value { return &oneOf{to, known} }

type oneOf struct {
	to    *string
	known []string
}

func (o *oneOf) String() string { return *o.to }

// Set takes what the user typed.
func (o *oneOf) Set(value string) error {
	if !slices.Contains(o.known, value) {
		return fmt.Errorf("known are %s%s", strings.Join(o.known, ", "), DidYouMean(value, o.known))
	}
	*o.to = value
	return nil
}

// Type is what --help shows for the value.
func (o *oneOf) Type() string { return "string" }

// Print writes value as JSON or YAML. If output is "", it calls text instead, which
// writes text for people to Out. A nil slice is an empty list, not null.
func (c *Console) Print(output string, value any, text func() error) error {
	if list := reflect.ValueOf(value); list.Kind() == reflect.Slice && list.IsNil() {
		value = reflect.MakeSlice(list.Type(), 0, 0).Interface()
	}
	switch output {
	case "":
		out := c.Out
		c.Out = c.text(out)
		defer func() { c.Out = out }()
		return text()
	case "yaml":
		data, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
		_, err = c.Out.Write(data)
		return err
	default:
		e := json.NewEncoder(c.Out)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
}

// The minimum width of a table's cells and the space between columns.
const (
	TableMinCell = 6
	TablePadding = 3
)

// Table prints columns as kubectl does.
type Table struct{ w *tabwriter.Writer }

// NewTable begins a table that is written to out. Without header cells it has no
// header.
func NewTable(out io.Writer, header ...string) Table {
	t := Table{tabwriter.NewWriter(out, TableMinCell, 4, TablePadding, ' ', 0)}
	if len(header) > 0 {
		t.Row(header...)
	}
	return t
}

// Row adds a row.
func (t Table) Row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

// Flush writes the table.
func (t Table) Flush() error { return t.w.Flush() }

// OrNone returns s, or "<none>" for a table cell that would be empty.
func OrNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

// Counted returns a number of things: "1 node", "3 nodes".
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"everynode/bench/report"
)

// write prints a line for each program and variant: the median and the spread of each figure, and the median relative
// to that of the first line.
func write(w io.Writer, all []sample) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROGRAM\tCLUSTER\tNODES READY\tAGENT AVAILABLE\tMEMORY\tOF THE SERVER\tWITH FILES")
	var keys [][2]string
	groups := map[[2]string][]sample{}
	for _, one := range all {
		key := [2]string{one.program, one.variant}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], one)
	}
	for _, key := range keys {
		fmt.Fprintf(table, "%s\t%s", key[0], key[1])
		for _, c := range columns() {
			first, this := values(groups[keys[0]], c.of), values(groups[key], c.of)
			fmt.Fprintf(table, "\t%s", c.cell(report.SpreadOf(this), report.Median(first)))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// column is one figure of a sample, in its unit.
type column struct {
	unit string
	of   func(sample) float64
}

func columns() []column {
	const mega = 1 << 20
	return []column{
		{"s", func(s sample) float64 { return s.ready.Seconds() }},
		{"s", func(s sample) float64 { return s.available.Seconds() }},
		{"MB", func(s sample) float64 { return float64(s.all.anonymous) / mega }},
		{"MB", func(s sample) float64 { return float64(s.server.anonymous) / mega }},
		{"MB", func(s sample) float64 { return float64(s.all.share) / mega }},
	}
}

func (c column) cell(s report.Spread, first float64) string {
	return fmt.Sprintf("%.1f %s [%.1f-%.1f] %+.1f", s.Median, c.unit, s.Min, s.Max, s.Median-first)
}

func values(of []sample, figure func(sample) float64) (out []float64) {
	for _, one := range of {
		out = append(out, figure(one))
	}
	return out
}

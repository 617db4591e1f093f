package verbs

import (
	"fmt"
	"io"
	"strings"
	"time"

	"everynode/internal/cli/console"
	"everynode/internal/forecast"
)

// fill takes the results of both simulations. Steps and what is left are those of
// fast.
func (s *setForecast) fill(fast, slow *course) {
	s.inWaves = fast.released
	s.Nodes = map[forecast.Change]int{}
	s.MostDown, s.AtLeast, s.AtMost = fast.MostDown, fast.Took.Seconds(), slow.Took.Seconds()
	s.Steps = make([]forecastStep, 0, len(fast.Steps))
	for i := range fast.Steps {
		x := &fast.Steps[i]
		s.Nodes[x.Change]++
		step := forecastStep{Node: x.Node, Change: x.Change, Reason: x.Reason.String(), Detail: x.Detail, Begins: x.Begins.Seconds()}
		if x.Ended {
			ends := x.Ends.Seconds()
			step.Ends = &ends
		}
		s.Steps = append(s.Steps, step)
	}
	for _, l := range fast.Left {
		s.Left = append(s.Left, forecastLeft{l.Node, l.Reason.String(), l.Detail, l.Reason.Sentence()})
	}
}

func (cmd planCommand) print(output string, r *forecastReport) error {
	wide := output == "wide"
	if wide {
		output = ""
	}
	return cmd.Print(output, r, func() error {
		width, _ := console.WidthOf(cmd.Out)
		for i := range r.DaemonSets {
			if i > 0 {
				fmt.Fprintln(cmd.Out)
			}
			if err := r.DaemonSets[i].print(cmd.Out, width, wide); err != nil {
				return err
			}
		}
		for _, what := range r.NotRead {
			fmt.Fprintln(cmd.Out, strings.Join(console.Wrapped("not known: "+what, width), "\n"))
		}
		return nil
	})
}

func (s *setForecast) print(out io.Writer, width int, wide bool) error {
	lines := console.Wrapped(s.Namespace+"/"+s.Name+": "+s.summary(), width)
	for _, w := range s.Warnings {
		lines = append(lines, console.Wrapped("warning: "+w.Reason+": "+w.Text, width)...)
	}
	if _, err := fmt.Fprintln(out, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if len(s.Steps) > 0 {
		if err := s.table(out, wide); err != nil {
			return err
		}
	}
	if s.Policy != nil {
		if err := s.Policy.print(out, width); err != nil {
			return err
		}
	}
	if len(s.Left) == 0 {
		return nil
	}
	t := console.NewTable(out, "STAYS", "REASON", "DETAIL")
	for _, g := range grouped(s.Left, func(l forecastLeft) string { return l.Reason + l.Detail }, wide) {
		t.Row(nodesText(g, func(l forecastLeft) string { return l.Node }), g[0].Reason, g[0].Detail)
	}
	return t.Flush()
}

// summary describes the change in a sentence.
func (s *setForecast) summary() string {
	var parts []string
	for _, c := range []forecast.Change{forecast.Replaces, forecast.Gains, forecast.Loses} {
		if n := s.Nodes[c]; n > 0 {
			parts = append(parts, console.Counted(n, "pod")+" "+c.String())
		}
	}
	if len(parts) == 0 {
		return "no pod would change"
	}
	text := strings.Join(parts, ", ") + "; "
	if s.MostDown > 0 {
		text += "at most " + console.Counted(s.MostDown, "node") + " without one at a time; "
	}
	least, most := roundTime(s.AtLeast), roundTime(s.AtMost)
	text += "about " + least.String()
	if s.inWaves {
		text += " in waves"
	}
	if most > least {
		text += ", up to " + most.String() + " if pods are slow to end"
	}
	switch start := roundTime(s.Start).String(); {
	case s.StartOf > 0:
		text += fmt.Sprintf(" (a pod is ready after %s: the middle of %d)", start, s.StartOf)
	default:
		text += fmt.Sprintf(" (a pod is taken to be ready after %s)", start)
	}
	return text
}

// roundTime rounds seconds to a duration that is easy to read.
func roundTime(seconds float64) time.Duration {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(10 * time.Second)
}

// table prints the steps in their order: with wide one per line, otherwise one line
// for those that begin together.
func (s *setForecast) table(out io.Writer, wide bool) error {
	t := console.NewTable(out, "AFTER", "NODES", "POD", "REASON", "DETAIL")
	key := func(x forecastStep) string { return fmt.Sprint(x.Begins, x.Change, x.Reason, x.Detail) }
	for _, g := range grouped(s.Steps, key, wide) {
		t.Row(roundTime(g[0].Begins).String(), nodesText(g, func(x forecastStep) string { return x.Node }), g[0].Change.String(), g[0].Reason, g[0].Detail)
	}
	return t.Flush()
}

// grouped groups neighbours with the same key. With each, every item is a group of
// its own.
func grouped[T any](all []T, key func(T) string, each bool) (groups [][]T) {
	for _, x := range all {
		if last := len(groups) - 1; last >= 0 && !each && key(groups[last][0]) == key(x) {
			groups[last] = append(groups[last], x)
			continue
		}
		groups = append(groups, []T{x})
	}
	return groups
}

// namedNodes is how many nodes of a group are shown by name.
const namedNodes = 3

func nodesText[T any](group []T, name func(T) string) string {
	var names []string
	for _, x := range group[:min(len(group), namedNodes)] {
		names = append(names, name(x))
	}
	text := strings.Join(names, ", ")
	if more := len(group) - namedNodes; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

package verbs

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"everynode/internal/cli/console"
	"everynode/internal/why"
)

func (cmd whyCommand) print(output string, q why.Question, answer *why.Answer) error {
	wide := output == "wide"
	if wide {
		output = ""
	}
	return cmd.Print(output, answer, func() error {
		width, terminal := console.WidthOf(cmd.Out)
		t := whyText{out: cmd.Out, question: q, width: width, clip: terminal}
		if err := t.heading(answer); err != nil || len(answer.Rows) == 0 {
			return err
		}
		if wide {
			return t.blocks(answer.Rows)
		}
		return t.table(answer.Rows)
	})
}

// whyText writes an answer for people, width columns wide. With clip it cuts
// cells that do not fit; a pipe gets whole cells.
type whyText struct {
	out      io.Writer
	question why.Question
	width    int
	clip     bool
}

// heading prints the totals in one line, and what is wrong with the DaemonSets as
// a whole.
func (t *whyText) heading(answer *why.Answer) error {
	reasons, rows := map[string]int{}, 0
	for _, ds := range answer.DaemonSets {
		for reason, n := range ds.Reasons {
			reasons[reason] += n
			rows += n
		}
	}
	var of string
	switch q := t.question; {
	case q.Node != "" && q.DaemonSet != "":
		of = fmt.Sprintf("%s on %s", q.Namespace+"/"+q.DaemonSet, q.Node)
	case q.Node != "":
		of = fmt.Sprintf("%s, %s", q.Node, console.Counted(rows, "DaemonSet"))
	default:
		of = fmt.Sprintf("%s, %s", q.Namespace+"/"+q.DaemonSet, console.Counted(rows, "node"))
	}
	if rows == 0 {
		of += ": nothing to say"
	} else {
		of += ": " + reasonCounts(reasons)
	}
	lines := console.Wrapped(of, t.width)
	for _, ds := range answer.DaemonSets {
		if ds.Controller != "" {
			lines = append(lines, console.Wrapped(ds.Namespace+"/"+ds.Name+": "+ds.Controller, t.width)...)
		}
		if ds.Command != "" {
			lines = append(lines, "    "+ds.Command)
		}
		if t.question.DaemonSet == "" {
			continue // a question about a node is about what is wrong there, not about each manifest
		}
		for _, warning := range ds.Warnings {
			lines = append(lines, console.Wrapped("warning: "+warning, t.width)...)
		}
	}
	for _, what := range answer.NotRead {
		lines = append(lines, console.Wrapped("not known: "+what, t.width)...)
	}
	_, err := fmt.Fprintln(t.out, strings.Join(lines, "\n"))
	return err
}

// reasonCounts returns a text like "997 UpToDate, 2 NotReady", the most frequent
// first.
func reasonCounts(reasons map[string]int) string {
	var names []string
	for name := range reasons {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", reasons[name], name)
	}
	return strings.Join(names, ", ")
}

// subject returns the cell that differs from row to row.
func (t *whyText) subject(r *why.Row) string {
	if t.question.DaemonSet != "" {
		return r.Node
	}
	return r.Namespace + "/" + r.DaemonSet
}

func (t *whyText) table(rows []why.Row) error {
	head := "NODE"
	if t.question.DaemonSet == "" {
		head = "DAEMONSET"
	}
	cells := [][]string{{head, "POD", "REASON", "SINCE", "DETAIL"}}
	for i := range rows {
		r := &rows[i]
		cells = append(cells, []string{t.subject(r), console.OrNone(r.Pod), r.Reason, ago(r.Since), r.Detail})
	}
	if t.clip {
		clipLast(cells, t.width)
	}
	table := console.NewTable(t.out, cells[0]...)
	for _, row := range cells[1:] {
		table.Row(row...)
	}
	return table.Flush()
}

// minDetail is the least width that a cell is cut to.
const minDetail = 24

// clipLast cuts the last column so that a table is at most width columns wide.
func clipLast(cells [][]string, width int) {
	last, others := len(cells[0])-1, 0
	for col := range last {
		widest := 0
		for _, row := range cells {
			widest = max(widest, len(row[col]))
		}
		others += max(widest+console.TablePadding, console.TableMinCell)
	}
	room := max(width-others, minDetail)
	for _, row := range cells {
		if text := []rune(row[last]); len(text) > room {
			row[last] = string(text[:room-3]) + "..."
		}
	}
}

// blocks writes a line for each row, and below it everything that is known about
// it, unless the pod is up to date.
func (t *whyText) blocks(rows []why.Row) error {
	var b strings.Builder
	for i := range rows {
		r := &rows[i]
		line := t.subject(r) + "  " + r.Reason
		if r.Pod != "" {
			line += "  pod " + r.Pod
		}
		if r.Since != nil {
			line += "  since " + ago(r.Since) + " ago"
		}
		fmt.Fprintln(&b, line)
		if r.Reason == "UpToDate" {
			continue
		}
		for _, text := range []string{r.Detail, r.Why, r.Change} {
			for _, l := range console.Wrapped(text, t.width-4) {
				fmt.Fprintln(&b, "    "+l)
			}
		}
		for _, command := range r.Commands {
			fmt.Fprintln(&b, "    $ "+command) // never wrapped, so that users can copy it
		}
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "<none>"
	}
	return duration.HumanDuration(time.Since(*t))
}

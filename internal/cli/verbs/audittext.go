package verbs

import (
	"fmt"
	"io"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/audit"
	"everynode/internal/cli/console"
)

// auditReport is what `audit` prints.
type auditReport struct {
	DaemonSets int `json:"daemonSets"`
	// Nodes is how many nodes there are; nil if that is not known.
	Nodes *int `json:"nodes,omitempty"`
	// Found counts all findings by severity, including those that are not shown.
	Found map[string]int `json:"found"`
	// Guarded are the DaemonSets whose pods a RolloutPolicy holds when an edit of labels or of the placement would
	// take them away; nil if the policies are not known, or the cluster does not have them.
	Guarded []audit.Guard `json:"guarded,omitzero"`
	// WithoutFinding is how many DaemonSets have no finding.
	WithoutFinding int `json:"withoutFinding"`
	// NotRead says what is not known, a sentence each.
	NotRead  []string        `json:"notRead,omitempty"`
	Findings []audit.Finding `json:"findings"`
}

func newAuditReport(in *audit.Input, notRead []string) *auditReport {
	r := &auditReport{DaemonSets: len(in.DaemonSets), Found: map[string]int{}, NotRead: notRead, Findings: audit.Audit(in)}
	if in.Nodes != nil {
		n := len(in.Nodes)
		r.Nodes = &n
	}
	if in.Policies != nil {
		r.Guarded = audit.Guards(in)
	}
	found := map[string]bool{}
	for i := range r.Findings {
		x := &r.Findings[i]
		r.Found[x.Severity.String()]++
		found[x.Namespace+"/"+x.DaemonSet] = true
	}
	r.WithoutFinding = r.DaemonSets - len(found)
	return r
}

// dropCommands removes commands that ask a cluster.
func (r *auditReport) dropCommands() {
	for i := range r.Findings {
		r.Findings[i].Commands = nil
	}
}

func (cmd auditCommand) print(output string, r *auditReport) error {
	wide := output == "wide"
	if wide {
		output = ""
	}
	return cmd.Print(output, r, func() error {
		width, terminal := console.WidthOf(cmd.Out)
		lines := r.heading(width)
		if _, err := fmt.Fprintln(cmd.Out, strings.Join(lines, "\n")); err != nil || len(r.Findings) == 0 {
			return err
		}
		if wide {
			_, err := io.WriteString(cmd.Out, r.blocks(width))
			return err
		}
		return r.table(cmd.Out, width, terminal)
	})
}

// heading returns the totals in one line, and what is not known.
func (r *auditReport) heading(width int) []string {
	text := console.Counted(r.DaemonSets, "DaemonSet")
	if r.Nodes != nil {
		text += " on " + console.Counted(*r.Nodes, "node")
	}
	var counts []string
	total := 0
	for _, s := range slices.Backward(audit.Severities()) {
		if n := r.Found[s.String()]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
			total += n
		}
	}
	if total == 0 {
		text += ": no findings"
	} else {
		text += fmt.Sprintf(": %s; %d without a finding", strings.Join(counts, ", "), r.WithoutFinding)
	}
	lines := console.Wrapped(text, width)
	if n := len(r.Findings); n < total {
		lines = append(lines, fmt.Sprintf("%d of %d findings are shown", n, total))
	}
	if r.Guarded != nil {
		lines = append(lines, console.Wrapped(fmt.Sprintf("a RolloutPolicy's guard holds the pods of %d when labels or the placement change", len(r.Guarded)), width)...)
	}
	for _, what := range r.NotRead {
		lines = append(lines, console.Wrapped("not known: "+what, width)...)
	}
	return lines
}

func (r *auditReport) table(out io.Writer, width int, clip bool) error {
	cells := [][]string{{"SEVERITY", "NODES", "DAEMONSET", "REASON", "FINDING"}}
	for i := range r.Findings {
		x := &r.Findings[i]
		cells = append(cells, []string{x.Severity.String(), x.Cost.String(), x.Namespace + "/" + x.DaemonSet, x.Reason.String(), x.Text})
	}
	if clip {
		clipLast(cells, width)
	}
	table := console.NewTable(out, cells[0]...)
	for _, row := range cells[1:] {
		table.Row(row...)
	}
	return table.Flush()
}

// blocks returns a line for each finding, and below it everything that is known about it.
func (r *auditReport) blocks(width int) string {
	var b strings.Builder
	for i := range r.Findings {
		x := &r.Findings[i]
		fmt.Fprintf(&b, "%s  %s/%s  %s", x.Severity, x.Namespace, x.DaemonSet, x.Reason)
		if x.Cost != nil {
			fmt.Fprintf(&b, "  nodes: %s", x.Cost)
		}
		fmt.Fprintln(&b)
		for _, text := range []string{x.Text, x.Why, x.Change} {
			for _, l := range console.Wrapped(text, width-4) {
				fmt.Fprintln(&b, "    "+l)
			}
		}
		for _, command := range x.Commands {
			fmt.Fprintln(&b, "    $ "+command) // never wrapped, so that users can copy it
		}
	}
	return b.String()
}

// namesOf returns the names of the DaemonSets that are not among given.
func namesOf(sets []appsv1.DaemonSet, given []string) (names []string) {
	for i := range sets {
		if name := sets[i].Namespace + "/" + sets[i].Name; !slices.Contains(given, name) {
			names = append(names, name)
		}
	}
	return names
}

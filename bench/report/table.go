package report

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// Row is one line of the table: a figure for every system.
type Row struct {
	Label string
	Unit  Unit
	Nodes int
	value func(Sample) (float64, bool)
	phase string
	// upstream is the system that ours is compared with; "" means the better of U2 and U16.
	upstream string
}

// Unit determines how a figure is printed.
type Unit int

// Units of the table.
const (
	Seconds Unit = iota
	Milliseconds
	Megabytes
	Count
	Percent
)

// Format formats a value in seconds, in bytes, as a share of 1, or without a unit.
func (u Unit) Format(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case u == Milliseconds:
		return significant(v*1000) + " ms"
	case u == Megabytes:
		return fmt.Sprintf("%.0f MB", v/1e6)
	case u == Count:
		return significant(v)
	case u == Percent:
		return significant(v*100) + " %"
	default:
		return significant(v) + " s"
	}
}

// significant formats a value with three digits, and without an exponent.
func significant(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// Rows returns the lines of the table.
func Rows(r *Results) []Row {
	n := r.Nodes
	metric := func(name string) func(Sample) (float64, bool) {
		return func(s Sample) (float64, bool) { v, ok := s.Metrics[name]; return v, ok }
	}
	perPod := func(s Sample) (float64, bool) {
		w, ok := s.Metrics["writes"]
		return w / s.Metrics["pods"], ok && s.Metrics["pods"] > 0
	}
	// The scheduler is measured with upstream's controller, and has to know these pods in any case.
	ofController := func(s Sample) (float64, bool) {
		v, ok := s.Metrics["cpu"]
		return v - s.Metrics["cpu.kube-scheduler"], ok
	}
	// The server does the same work for each system, however fast the machine is at the time.
	share := func(s Sample) (float64, bool) {
		v, ok := s.Metrics["cpu"]
		return v / s.Metrics["cpuServer"], ok && s.Metrics["cpuServer"] > 0
	}
	rows := []Row{
		{"cold coverage: all pods running", Seconds, n, metric("running"), "coverage", ""},
		{"cold coverage: all pods available in the status", Seconds, n, metric("time"), "coverage", ""},
		{"  processor time", Seconds, n, metric("cpu"), "coverage", ""},
		{"  processor time of API server and etcd", Seconds, n, metric("cpuServer"), "coverage", ""},
		{"  processor time as a share of theirs", Percent, n, share, "coverage", ""},
		{"  API writes per pod", Count, n, perPod, "coverage", ""},
		{"  status writes", Count, n, metric("statusWrites"), "coverage", ""},
		{"node joins, pod bound: p50", Milliseconds, n, metric("p50"), "joins", ""},
		{"  p99", Milliseconds, n, metric("p99"), "joins", ""},
		{fmt.Sprintf("%d nodes join at once, all pods bound", r.Burst), Seconds, n, metric("time"), "burst", ""},
		{"label set, pod bound: p50", Milliseconds, n, metric("p50"), "flips", ""},
		{"  p99", Milliseconds, n, metric("p99"), "flips", ""},
		{"rolling update, 10% at a time", Seconds, n, metric("time"), "rollout", ""},
		{"  processor time", Seconds, n, metric("cpu"), "rollout", ""},
		{"  processor time of API server and etcd", Seconds, n, metric("cpuServer"), "rollout", ""},
		{"  processor time as a share of theirs", Percent, n, share, "rollout", ""},
		{"  API writes per replaced pod", Count, n, perPod, "rollout", ""},
		{"  status writes", Count, n, metric("statusWrites"), "rollout", ""},
		{fmt.Sprintf("rolling update of %d nodes, 10%% at a time, writes of real kubelets", r.Real), Seconds, n, metric("time"), "real", ""},
		{"  processor time", Seconds, n, metric("cpu"), "real", ""},
		{"  processor time of API server and etcd", Seconds, n, metric("cpuServer"), "real", ""},
		{"  API writes per replaced pod", Count, n, perPod, "real", ""},
		{fmt.Sprintf("rolling update of %d nodes, one at a time", r.Serial), Seconds, n, metric("time"), "serial", ""},
		{"  processor time", Seconds, n, metric("cpu"), "serial", ""},
		{"heartbeat of every node: processor time", Seconds, n, metric("cpu"), "heartbeats", ""},
		{fmt.Sprintf("label on every node, %d idle DaemonSets: processor time", r.Idle), Seconds, n, metric("cpu"), "labels", ""},
		{fmt.Sprintf("node joins, all pods of %d DaemonSets created", r.Idle), Milliseconds, n, metric("p50"), "many", ""},
		{"  bound", Milliseconds, n, metric("bound"), "many", ""},
		{"leader told to stop, successor's pod bound", Milliseconds, n, metric("p50"), "leader", ""},
		{"  worst", Milliseconds, n, metric("max"), "leader", ""},
		{fmt.Sprintf("%d pods of Deployments change once: processor time", r.Foreign), Seconds, n, ofController, "foreign", ""},
		{"peak memory (VmHWM)", Megabytes, n, metric("peakRSS"), "", ""},
		{"peak memory without files (RssAnon)", Megabytes, n, metric("peakAnon"), "", ""},
	}
	return append(rows, shipped(r, metric)...)
}

// shipped returns the line of upstream with its default client limits.
func shipped(r *Results, metric func(string) func(Sample) (float64, bool)) []Row {
	for _, s := range r.Samples {
		if s.System == "U0" {
			return []Row{{fmt.Sprintf("as shipped (U0), %d nodes: all pods available", s.Nodes), Seconds, s.Nodes, metric("time"), "coverage", "U0"}}
		}
	}
	return nil
}

// Of returns the row's figure for a system over the repetitions. A row without a phase takes the largest figure of
// each repetition.
func (row Row) Of(r *Results, system string) Spread {
	largest := map[int]float64{}
	var order []int
	for _, s := range r.Samples {
		if s.System != system || s.Nodes != row.Nodes || row.phase != "" && s.Phase != row.phase {
			continue
		}
		v, ok := row.value(s)
		if !ok {
			continue
		}
		if old, seen := largest[s.Repetition]; !seen {
			order = append(order, s.Repetition)
			largest[s.Repetition] = v
		} else {
			largest[s.Repetition] = max(old, v)
		}
	}
	values := make([]float64, len(order))
	for i, repetition := range order {
		values[i] = largest[repetition]
	}
	return SpreadOf(values)
}

// Upstream returns the better of upstream's settings for a row. Less is better.
func (row Row) Upstream(r *Results) Spread {
	if row.upstream != "" {
		return row.Of(r, row.upstream)
	}
	best := row.Of(r, "U2")
	if other := row.Of(r, "U16"); best.N == 0 || other.N > 0 && other.Median < best.Median {
		best = other
	}
	return best
}

// Table returns everything that was measured, as text. Figures are medians, with the least and the greatest in
// brackets. U is the better of U2 and U16.
func Table(r *Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d nodes of %.1f kB, %d processors (%s), Kubernetes %s, etcd %s, %s; %s, took %.0f s\n",
		r.Nodes, float64(r.NodeBytes)/1000, r.Machine.CPUs, r.Machine.Model, r.Versions["kubernetes"], r.Versions["etcd"], r.Versions["go"],
		r.Started.Format("2006-01-02 15:04"), r.Seconds)
	b.WriteString("R: bare client")
	if r.Bare != "" {
		b.WriteString(", " + r.Bare)
	}
	b.WriteString("; U2, U16: upstream's DaemonSet controller and scheduler, client limits lifted, 2 and 16 syncs; E: everynode-controller; P: the same with a policy; I: updates in place; B: another everynode-controller\n")
	b.WriteString(Disturbance(r))
	b.WriteString("medians [least-greatest]; U is the better of U2 and U16\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tR\tU2\tU16\tE\tU/E\tE/R\tP\tP/E\tI\tU/I\tB\tE/B")
	for _, row := range Rows(r) {
		bare, ours, driven, theirs, inPlace := row.Of(r, "R"), row.Of(r, "E"), row.Of(r, "P"), row.Upstream(r), row.Of(r, "I")
		before := row.Of(r, "B")
		u2, u16 := row.Of(r, "U2"), row.Of(r, "U16")
		if row.upstream != "" {
			u2, u16 = theirs, Spread{Median: math.NaN()} // it has two syncs, too
		}
		if bare.N+ours.N+theirs.N+driven.N+inPlace.N+before.N == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Label, row.cell(bare), row.cell(u2), row.cell(u16), row.cell(ours),
			ratio(theirs, ours), ratio(ours, bare), row.cell(driven), ratio(driven, ours), row.cell(inPlace), ratio(theirs, inPlace), row.cell(before), ratio(ours, before))
	}
	w.Flush() // a strings.Builder does not fail
	return b.String()
}

// Disturbance returns, for each system, how much of the processor time other work on the machine took.
func Disturbance(r *Results) string {
	elapsed, others := map[string]float64{}, map[string]float64{}
	for _, s := range r.Samples {
		elapsed[s.System] += s.Metrics["elapsed"]
		others[s.System] += s.Metrics["cpuOthers"]
	}
	var parts []string
	for _, system := range []string{"R", "U2", "U16", "U0", "E", "P", "I", "B"} {
		if all := elapsed[system] * float64(r.Machine.CPUs); all > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f%%", system, max(others[system], 0)/all*100))
		}
	}
	return "taken by other work on this machine: " + strings.Join(parts, ", ") + " of all processor time\n"
}

func (row Row) cell(s Spread) string {
	if s.N < 2 {
		return row.Unit.Format(s.Median)
	}
	bare := func(v float64) string { text, _, _ := strings.Cut(row.Unit.Format(v), " "); return text }
	return fmt.Sprintf("%s [%s-%s]", row.Unit.Format(s.Median), bare(s.Min), bare(s.Max))
}

func ratio(a, b Spread) string {
	if a.N == 0 || b.N == 0 || b.Median == 0 {
		return "-"
	}
	return significant(a.Median/b.Median) + "x"
}

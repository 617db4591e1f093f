package plan

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Render returns the plan as text: a table with one line for each node, then the writes, the
// status, and when to look again. Times are relative to now, which is the Now of the input. The
// command line and the test scripts print the same, so you can read one with the help of the
// other.
func Render(p *Plan, now time.Time) string {
	var b strings.Builder
	b.WriteString(RenderVerdicts(p.Verdicts, now))
	for _, d := range p.Deletes {
		fmt.Fprintf(&b, "delete %s on %s: %s%s%s\n", d.Pod, d.Node, d.Reason, when(d.Reaches, " for the target"), when(d.Now, " now"))
	}
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "change %s on %s: %s%s%s\n", c.Pod, c.Node, c.Reason, when(c.Reaches, " for the target"), when(c.Stable, " to the stable revision"))
	}
	for _, c := range p.Creates {
		fmt.Fprintf(&b, "create on %s: %s%s%s%s\n", c.Node, c.Reason, when(c.Stable, " of the stable revision"),
			when(c.Predecessor != "", " after "+c.Predecessor), when(c.ByScheduler, " by scheduler"))
	}
	s := p.Status
	fmt.Fprintf(&b, "status desired=%d current=%d ready=%d updated=%d available=%d unavailable=%d misscheduled=%d\n",
		s.Desired, s.Current, s.Ready, s.Updated, s.Available, s.Unavailable, s.Misscheduled)
	for i := range p.Verdicts {
		if v := &p.Verdicts[i]; v.Failure() != Unfailed {
			fmt.Fprintf(&b, "failed %s: %s\n", v.Node, v.Failure())
		}
	}
	if p.Guarded > 0 {
		fmt.Fprintf(&b, "guarded %d\n", p.Guarded)
	}
	if e := p.Exposure; e.Exposed+e.Other+len(e.Reachable) > 0 {
		fmt.Fprintf(&b, "release exposed=%d well=%d underWay=%d failed=%d other=%d reachable=%v\n",
			e.Exposed, e.Well, e.UnderWay, e.Failed, e.Other, e.Reachable)
		if e.Refused > 0 {
			fmt.Fprintf(&b, "refused %d\n", e.Refused)
		}
		if e.Leaked > 0 {
			fmt.Fprintf(&b, "leaked %d\n", e.Leaked)
		}
	}
	if !p.WakeAt.IsZero() {
		fmt.Fprintf(&b, "wake in %v\n", p.WakeAt.Sub(now))
	}
	return b.String()
}

// RenderVerdicts returns only the table of Render.
func RenderVerdicts(verdicts []Verdict, now time.Time) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tPOD\tREASON\tDETAIL\tUNTIL")
	for i := range verdicts {
		v := &verdicts[i]
		until := ""
		if !v.Until.IsZero() {
			until = "+" + v.Until.Sub(now).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.Node, dash(v.Pod), v.Reason, dash(v.Detail), dash(until))
	}
	w.Flush() // into memory, which cannot fail
	return b.String()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func when(is bool, s string) string {
	if is {
		return s
	}
	return ""
}

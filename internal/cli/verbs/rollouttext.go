package verbs

import (
	"fmt"
	"io"
	"strings"

	"everynode/internal/cli/console"
	"everynode/internal/rollout"
)

// releaseText prints a release for people.
type releaseText struct {
	release *release
	out     io.Writer
}

// print prints where a release is. With wide it also prints all counts.
func (t releaseText) print(wide bool) error {
	r, out := t.release, t.out
	width, _ := console.WidthOf(out)
	lines := console.Wrapped(r.Namespace+"/"+r.Name+": "+t.summary(), width)
	if r.Status.Message != "all nodes get "+r.state.Stable { // the first line says that
		lines = append(lines, console.Wrapped(r.Status.Message, width)...)
	}
	if behind(r) {
		lines = append(lines, console.Wrapped("warning: the engine has not heeded the last request yet", width)...)
	}
	if r.policy == nil && r.Status.Policy != nil {
		lines = append(lines, console.Wrapped("policy "+r.Status.Policy.Name+" cannot be read", width)...)
	}
	if _, err := fmt.Fprintln(out, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if wide {
		if err := t.counts(); err != nil {
			return err
		}
	}
	if err := t.failures(); err != nil {
		return err
	}
	for _, next := range t.next() {
		if _, err := fmt.Fprintln(out, "    "+next); err != nil {
			return err
		}
	}
	return nil
}

// summary returns one line about the release.
func (t releaseText) summary() string {
	r := t.release
	s, n := &r.state, &r.Status.Nodes
	if r.unbegun() {
		return fmt.Sprintf("%s, no release is under way; %s should have a pod", s.Phase, console.Counted(n.Eligible, "node"))
	}
	if r.through() && s.Phase == rollout.Idle {
		text := fmt.Sprintf("%s, all of %d nodes get %s", s.Phase, n.Eligible, r.revision(s.Stable))
		if s.Reason.OfPolicy() {
			text += fmt.Sprintf("; the next release will be held (%s)", s.Reason)
		}
		if n.Other > 0 {
			text += fmt.Sprintf("; %s of another revision", console.Counted(n.Other, "node"))
		}
		if r.Spec.Paused {
			text += "; paused: the next release waits"
		}
		return text
	}
	text := fmt.Sprintf("%s, release %d: %s in place of %s; %d of %d nodes have it, %d well, %d failed", s.Phase, s.Release, r.revision(s.Target), r.revision(s.Stable), n.Exposed, n.Eligible, n.Well, n.Failed)
	if n.Other > 0 {
		text += fmt.Sprintf("; %s of another revision", console.Counted(n.Other, "node"))
	}
	return text
}

func (t releaseText) counts() error {
	r := t.release
	s, n, policy := &r.state, &r.Status.Nodes, ""
	if r.Status.Policy != nil {
		policy = r.Status.Policy.Name
	}
	table := console.NewTable(t.out, "POLICY", "WAVE", "SOAK", "QUOTA", "EXPOSED", "WELL", "UNDER WAY", "FAILED", "OTHER", "HELD")
	cells := []string{console.OrNone(policy), console.OrNone(strings.Trim(s.Wave+"/"+s.Group, "/")), console.OrNone(r.Status.Soak)}
	for _, count := range []int{s.Quota, n.Exposed, n.Well, n.UnderWay, n.Failed, n.Other, r.held()} {
		cells = append(cells, fmt.Sprint(count))
	}
	table.Row(cells...)
	return table.Flush()
}

func (t releaseText) failures() error {
	if len(t.release.Status.Failures) == 0 {
		return nil
	}
	table := console.NewTable(t.out, "NODE", "SINCE", "REASON", "MESSAGE")
	for _, f := range t.release.Status.Failures {
		since := f.Since.Time
		table.Row(f.Node, ago(&since), f.Reason, strings.Join(strings.Fields(f.Message), " "))
	}
	return table.Flush()
}

// next returns the commands that make sense now.
func (t releaseText) next() (all []string) {
	r := t.release
	s := &r.state
	add := func(verb, more string) { all = append(all, r.command(verb, more)) }
	if r.held() > 0 {
		add("allow", "")
	}
	switch {
	case r.through():
		return all
	case s.Back:
		add("retry", "")
	case s.Stopped:
		add("resume", "")
		add("abort", "")
	case s.Reason == rollout.NotApproved || s.Reason == rollout.NoneWell:
		add("promote", s.Wave)
		add("abort", "")
	case s.Phase == rollout.Paused:
		add("resume", "")
		add("abort", "")
	case s.Reason == rollout.PolicyGone, s.Reason == rollout.PolicyUnreadable, s.Reason == rollout.SeveralPolicies:
		add("abort", "")
		add("plain", "")
	case s.Reason == rollout.ClockSkew:
		add("abort", "")
	case s.Reason == rollout.StableGone: // there is no revision to go back to
		add("plain", "")
	}
	return all
}

package verbs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/rollout"
)

// rolloutVerb is a command that sends a request to the engine.
type rolloutVerb struct {
	use, short, long, example string
	all                       string // what --all does; "": it does not have the flag
	undoes                    bool   // it also has the flags about the template
	args                      cobra.PositionalArgs
	// decide returns what to write for the current release, or why that makes no sense now.
	decide func(r *release, words []string, all bool) (request, error)
}

func rolloutVerbs() []rolloutVerb {
	one := cobra.ExactArgs(1)
	return []rolloutVerb{
		{use: "pause ds/NAME", short: "Let no more nodes have the new revision until somebody resumes", args: one, decide: (*release).pause,
			long:    "Let no more nodes have the new revision until somebody resumes. What has it keeps it. A pause stays for the releases to come.",
			example: "  everynode rollout pause ds/agent -n monitoring"},
		{use: "resume ds/NAME", short: "End a pause, or let a release go on that has stopped", args: one, decide: (*release).resume,
			long: "End a pause, or let a release go on that has stopped. The nodes that have failed by then are forgiven; the next ones that fail " +
				"stop it again.",
			example: "  everynode rollout resume ds/agent -n monitoring"},
		{use: "promote ds/NAME [WAVE]", short: "Let the next wave begin", args: cobra.RangeArgs(1, 2), decide: (*release).promote,
			all: "open all waves that are left at once, without their soak",
			long: "Approve the open wave, so that the next one begins once this one has soaked. A wave of which no node is well is left only when it is " +
				"promoted. With --all the waves that are left open at once; how many nodes are down at a time is bounded as before.",
			example: "  everynode rollout promote ds/agent canary -n monitoring\n  everynode rollout promote ds/agent --all"},
		{use: "abort ds/NAME", short: "Take a release back: all nodes get the stable revision again", args: one, decide: (*release).abort,
			long: "Take a release back: all nodes get the stable revision again. The template of the DaemonSet stays as it is, and is not released " +
				"again until it changes or somebody retries.",
			example: "  everynode rollout abort ds/agent -n monitoring"},
		{use: "undo ds/NAME", short: "The same as abort; with --patch: show what gives the template the stable revision", args: one, decide: (*release).abort, undoes: true,
			long: "The same as abort. The template of the DaemonSet stays as it is by that. With --patch it is the other way round: the change is shown that would " +
				"give the template what the stable revision has, and, if no release is under way, what the one before has. Nothing is aborted, and nothing is " +
				"written without --write, which needs --to-revision if no release is under way. With -o yaml it is a patch for kustomize, or for `kubectl patch --patch-file`.",
			example: "  everynode rollout undo ds/agent -n monitoring\n  everynode rollout undo ds/agent --patch                  # look at it\n" +
				"  everynode rollout undo ds/agent --patch -o yaml > undo.yaml\n  everynode rollout undo ds/agent --patch --to-revision 11 --write"},
		{use: "retry ds/NAME", short: "Begin again with a release that was taken back, from the first wave", args: one, decide: (*release).retry,
			long:    "Begin again with a release that was taken back, from the first wave, once all nodes have gone back.",
			example: "  everynode rollout retry ds/agent -n monitoring"},
		{use: "plain ds/NAME", short: "End a release where it is: all nodes get the new revision, without waves", args: one, decide: (*release).plain,
			long: "End a release where it is: the new revision counts as good, and all nodes get it as without a policy. This is the way out when the policy or " +
				"the stable revision is gone.",
			example: "  everynode rollout plain ds/agent -n monitoring"},
	}
}

// number names the release in texts.
func (r *release) number() string { return fmt.Sprintf("release %d", r.state.Release) }

// revision names a revision, with its number if that is known.
func (r *release) revision(hash string) string {
	if n := r.numbers[hash]; n > 0 {
		return fmt.Sprintf("%s (revision %d)", hash, n)
	}
	return hash
}

// named names the release and its target revision.
func (r *release) named() string { return r.number() + " of " + r.revision(r.state.Target) }

func (r *release) through() bool { return r.state.Target == r.state.Stable }

// unbegun reports whether there is no stable revision: the engine cannot tell yet which one the nodes have, or the
// DaemonSet no longer follows a policy.
func (r *release) unbegun() bool { return r.state.Stable == "" }

func (r *release) pause([]string, bool) (request, error) {
	switch {
	case r.Spec.Paused:
		return request{said: "it is paused already"}, nil
	case r.through():
		return request{map[string]any{"paused": true}, "paused: the next release waits until somebody resumes"}, nil
	}
	return request{map[string]any{"paused": true}, "paused: " + r.named() + " goes to no more nodes until somebody resumes"}, nil
}

func (r *release) resume([]string, bool) (request, error) {
	s, spec, said := &r.state, map[string]any{}, []string{}
	if r.Spec.Paused {
		spec["paused"], said = nil, append(said, "the pause ends")
	}
	if s.Stopped && !s.Back && !r.through() {
		spec["resume"] = map[string]any{"release": s.Release, "stop": s.Stops}
		if s.Unsure {
			said = append(said, fmt.Sprintf("%s goes on; %s counts as good", r.named(), r.revision(s.Stable)))
		} else {
			said = append(said, fmt.Sprintf("%s goes on after stop %d; %s forgiven", r.named(), s.Stops, failedNodes(r.Status.Nodes.Failed)))
		}
	}
	switch {
	case len(spec) > 0:
		return request{spec, strings.Join(said, "; ")}, nil
	case s.Back:
		return request{}, fmt.Errorf("%s was taken back, and does not go on; `everynode rollout retry` begins again with it", r.named())
	case s.Reason == rollout.NotApproved || s.Reason == rollout.NoneWell:
		return request{}, fmt.Errorf("%s waits for somebody who promotes wave %s, see `everynode rollout promote`", r.named(), s.Wave)
	}
	return request{}, fmt.Errorf("there is nothing to resume: %s", r.standing())
}

func failedNodes(n int) string {
	if n == 1 {
		return "the node that has failed is"
	}
	return fmt.Sprintf("the %d nodes that have failed are", n)
}

// standing describes where the release is, in a sentence.
func (r *release) standing() string {
	switch {
	case r.unbegun():
		return "no release is under way; " + r.Status.Message
	case r.through() && r.state.Phase == rollout.Idle:
		return fmt.Sprintf("no release is under way; all nodes get %s", r.revision(r.state.Stable))
	}
	return fmt.Sprintf("%s is in phase %s", r.named(), r.state.Phase)
}

func (r *release) promote(words []string, all bool) (request, error) {
	s := &r.state
	switch {
	case all && len(words) > 0:
		return request{}, console.Usage(fmt.Errorf("%s --all: give a wave, or --all for all that are left", words[0]))
	case r.through():
		return request{}, fmt.Errorf("there is nothing to promote: %s", r.standing())
	case s.Back:
		return request{}, fmt.Errorf("%s was taken back; `everynode rollout retry` begins again with it", r.named())
	case s.Stopped:
		return request{}, fmt.Errorf("%s has stopped, and to promote forgives nothing; `everynode rollout resume` lets it go on", r.named())
	case s.Wave == "":
		return request{}, fmt.Errorf("no wave is open: %s", r.standing())
	case all:
		return r.promotion(only(map[string]any{"release": s.Release, "all": true}, "wave"), r.named()+": all waves that are left open, without their soak")
	case len(words) > 0 && words[0] != s.Wave:
		return request{}, r.notOpen(words[0])
	case !r.asksForApproval():
		return request{}, fmt.Errorf("wave %s asks for no approval, so nothing waits to be promoted: %s. With --all the waves that are left open without their soak", s.Wave, r.standing())
	}
	return r.promotion(only(map[string]any{"release": s.Release, "wave": s.Wave}, "all"), fmt.Sprintf("%s: wave %s is promoted", r.named(), s.Wave))
}

func (r *release) promotion(fields map[string]any, said string) (request, error) {
	if p := r.Spec.Promote; p != nil && p.Release == r.state.Release && (p.All || p.Wave == fields["wave"]) {
		return request{said: "it is asked for already: " + said}, nil
	}
	if r.Spec.Paused {
		said += "; it counts once the pause ends"
	}
	return request{map[string]any{"promote": fields}, said}, nil
}

// asksForApproval reports whether the open wave waits for a person, now or at its end. It is true if the policy
// cannot be read.
func (r *release) asksForApproval() bool {
	if s := &r.state; s.Reason == rollout.NoneWell || s.Reason == rollout.NotApproved || r.policy == nil {
		return true
	}
	i := slices.IndexFunc(r.policy.Waves, func(w rollout.Wave) bool { return w.Name == r.state.Wave })
	return i < 0 || r.policy.Waves[i].Approval
}

// notOpen explains why a wave cannot be promoted.
func (r *release) notOpen(wave string) error {
	var names []string
	if r.policy != nil {
		for i := range r.policy.Waves {
			names = append(names, r.policy.Waves[i].Name)
		}
	}
	open, at := slices.Index(names, r.state.Wave), slices.Index(names, wave)
	switch {
	case r.policy != nil && at < 0:
		return fmt.Errorf("policy %s has no wave %s%s", r.policy.Name, wave, console.DidYouMean(wave, names))
	case at >= 0 && at < open:
		return fmt.Errorf("wave %s is over; the open one is %s", wave, r.state.Wave)
	}
	return fmt.Errorf("wave %s is not open; the open one is %s", wave, r.state.Wave)
}

func (r *release) abort([]string, bool) (request, error) {
	s := &r.state
	switch {
	case s.Reverting:
		return request{said: fmt.Sprintf("nodes go back to %s already", r.revision(s.Stable))}, nil
	case r.through():
		return request{}, fmt.Errorf("there is nothing to abort: %s. To go back to an older one, revert the manifest in git; what has to change in it: %s", r.standing(), r.command("undo", "--patch"))
	case s.Back:
		return request{said: r.named() + " was taken back already"}, nil
	case s.Reason == rollout.StableGone && !r.Status.Assists:
		return request{}, fmt.Errorf("no node can go back: the stable revision %s no longer exists. To give all nodes %s: %s", s.Stable, r.revision(s.Target), r.command("plain", ""))
	}
	// Earlier requests about this release no longer count.
	fields := map[string]any{"abort": s.Release, "promote": nil, "resume": nil}
	if r.Status.Assists {
		return request{fields, fmt.Sprintf("%s is aborted: no more nodes get it. Those that have it keep it, as the built-in controller makes pods of the template alone: revert the template in git; what has to change: %s",
			r.named(), r.command("undo", "--patch"))}, nil
	}
	return request{fields, fmt.Sprintf("%s is aborted: nodes go back to %s. The template still asks for %s: revert it in git, or go on to a fix; what has to change: %s",
		r.named(), r.revision(s.Stable), s.Target, r.command("undo", "--patch"))}, nil
}

func (r *release) retry([]string, bool) (request, error) {
	s := &r.state
	switch {
	case r.through():
		return request{}, fmt.Errorf("there is nothing to begin again with: %s", r.standing())
	case !s.Back:
		return request{}, fmt.Errorf("retry is for a release that was taken back: %s", r.standing())
	case s.Phase != rollout.Aborted:
		return request{map[string]any{"retry": s.Release}, r.revision(s.Target) + " is released again, from the first wave, once all nodes are back"}, nil
	}
	return request{map[string]any{"retry": s.Release}, r.revision(s.Target) + " is released again, from the first wave"}, nil
}

func (r *release) plain([]string, bool) (request, error) {
	if r.through() {
		return request{}, errors.New("there is nothing to end: " + r.standing())
	}
	return request{map[string]any{"plain": r.state.Release}, fmt.Sprintf("%s ends: all nodes get it, as updateStrategy says", r.named())}, nil
}

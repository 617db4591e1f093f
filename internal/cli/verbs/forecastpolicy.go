package verbs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // windows of policies name time zones, and a machine may have no database of them

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/audit"
	"everynode/internal/cli/console"
	"everynode/internal/forecast"
	"everynode/internal/plan"
	"everynode/internal/rollout"
	"everynode/internal/strictyaml"
	"everynode/internal/view"
)

// givenPolicy is a RolloutPolicy that was given to `plan`.
type givenPolicy struct {
	object view.RolloutPolicy
	policy rollout.Policy
}

// readPolicy reads the policy of --policy. It is nil if there is none.
func readPolicy(in io.Reader, file string) (*givenPolicy, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readFileOrInput(in, file)
	if err != nil {
		return nil, err
	}
	var g givenPolicy
	unknown, err := strictyaml.Unmarshal(data, &g.object)
	if err := errors.Join(append(unknown, err)...); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if o := &g.object; o.APIVersion != view.PolicyVersion || o.Kind != view.PolicyKind || o.Name == "" {
		return nil, fmt.Errorf("%s: it has apiVersion %q, kind %q and the name %q; give one %s of %s, with a name", file, o.APIVersion, o.Kind, o.Name, view.PolicyKind, view.PolicyVersion)
	}
	var wrong []string
	if g.policy, wrong = view.Policy(&g.object); wrong != nil {
		return nil, fmt.Errorf("%s: the policy cannot be followed:\n  %s", file, strings.Join(wrong, "\n  "))
	}
	return &g, nil
}

// followed returns the policy of the cluster that the releases of a DaemonSet follow. It is nil if they follow none,
// or if no release is possible with it, which is a warning.
func (w *forecastWorld) followed(ds *appsv1.DaemonSet, s *setForecast) *givenPolicy {
	var names, wrong []string
	var g givenPolicy
	for i := range w.reader.in.Policies {
		if o := &w.reader.in.Policies[i]; o.Chooses(ds) {
			names, g.object = append(names, o.Name), *o
			g.policy, wrong = view.Policy(o)
		}
	}
	named, all, why := ds.Annotations[view.PolicyAnnotation], strings.Join(names, ", "), ""
	switch {
	case len(names) > 1:
		why = "policies " + all + " choose this DaemonSet; it can follow one"
	case len(names) == 0 && named != "" && w.reader.in.Policies != nil:
		why = "the cluster has no policy " + named + ", which this DaemonSet names"
	case len(wrong) > 0:
		why = "policy " + all + " cannot be followed: " + strings.Join(wrong, "; ")
	case len(names) == 1:
		return &g
	default:
		return nil
	}
	s.Warnings = append(s.Warnings, forecastWarning{warnUpdateHeld, why + ". No node would get an update until that is repaired; what follows is an update without a policy"})
	return nil
}

// policyForecast is what a policy makes of a release.
type policyForecast struct {
	Name  string         `json:"name"`
	Waves []waveForecast `json:"waves"`
	// NoWaves is why there are no waves.
	NoWaves string `json:"noWaves,omitempty"`
	// held means that the guard holds pods.
	held bool
}

// waveForecast is a wave, or one group of it. Times are seconds since the change; Opens and Ends are also given as
// clock times.
type waveForecast struct {
	Wave     string    `json:"wave"`
	Group    string    `json:"group,omitempty"`
	Nodes    []string  `json:"nodes"`
	Total    int       `json:"total"`
	AtATime  int       `json:"atATime"`
	StopsAt  int       `json:"stopsAt"`
	Opens    float64   `json:"opens"`
	Soak     float64   `json:"soakSeconds"`
	Ends     float64   `json:"ends"`
	OpensAt  time.Time `json:"opensAt"`
	EndsAt   time.Time `json:"endsAt"`
	Approval bool      `json:"approval,omitempty"`
	// Uncovered are the combinations of values of the wave's cover labels that no node of the waves so far has.
	Uncovered []string `json:"uncovered,omitempty"`
}

// Warnings of `plan` about a policy.
const (
	warnNotChosen   = "PolicyIsForOthers"
	warnUncovered   = "NotCovered"
	warnNoSuchLabel = "NoSuchLabel"
	warnHeld        = "HeldByGuard"
	warnNotHeld     = "NotHeld"
	warnNotDriven   = "NotDriven"
	warnUpdateHeld  = "UpdateHeld"
	warnAddsNothing = "WaveAddsNothing"
	warnNeeded      = "StillNeeded"
)

// shrinking returns a sentence for each wave that asks for fewer nodes than an earlier one has reached by then. The policy
// does not show it if one gives a number, and the other a percentage. nodes is how many should have a pod.
func shrinking(p *rollout.Policy, nodes int) (said []string) {
	reached := 0
	for i := range p.Waves {
		w := &p.Waves[i]
		wants := min(max(w.Nodes.Of(nodes), 1), nodes)
		if wants < reached {
			said = append(said, fmt.Sprintf("wave %s is up to %d of the %d nodes, but %d have the new version before it begins: it adds no node, and only soaks", w.Name, wants, nodes, reached))
		}
		reached = max(reached, wants)
	}
	return said
}

// unknownLabels returns the labels that a policy uses and no node has: most likely a typo. Those that nodes are preferred
// for have a value.
func unknownLabels(p *rollout.Policy, nodes []plan.Node) (unknown []string) {
	for i := range p.Waves {
		w := &p.Waves[i]
		for _, key := range slices.Concat(w.Cover, []string{w.OneAtATime}) {
			has := func(n plan.Node) bool { _, ok := n.Labels[key]; return ok }
			if key != "" && !slices.ContainsFunc(nodes, has) {
				unknown = append(unknown, key)
			}
		}
		for key, value := range w.Prefer {
			has := func(n plan.Node) bool { got, ok := n.Labels[key]; return ok && got == value }
			if !slices.ContainsFunc(nodes, has) {
				unknown = append(unknown, key+"="+value)
			}
		}
	}
	slices.Sort(unknown)
	return slices.Compact(unknown)
}

func coverOf(p *rollout.Policy, wave string) []string {
	i := slices.IndexFunc(p.Waves, func(w rollout.Wave) bool { return w.Name == wave })
	return p.Waves[i].Cover
}

// drives reports whether a DaemonSet's update goes in the waves of the policy that it follows. assisted means that the
// cluster's DaemonSet controller creates the pods, and everynode deletes outdated ones.
func drives(ds *appsv1.DaemonSet, assisted bool) bool {
	return !assisted || view.UndrivenBeside(ds) == view.Driven
}

// follow adds what the policy makes of a DaemonSet's release.
func (s *setForecast) follow(g *givenPolicy, ds *appsv1.DaemonSet, in *forecast.Input, c *course) {
	warn := func(reason, format string, args ...any) {
		s.Warnings = append(s.Warnings, forecastWarning{reason, fmt.Sprintf(format, args...)})
	}
	if !g.object.Chooses(ds) {
		warn(warnNotChosen, "policy %s does not choose this DaemonSet; this is what it would do", g.policy.Name)
	}
	if in.Assisted {
		switch view.UndrivenBeside(ds) {
		case view.RolledOut:
			warn(warnNotDriven, "updateStrategy.type is not OnDelete, so the DaemonSet controller of the cluster rolls this out by itself, and not in these waves")
		case view.NoneMayGo:
			warn(warnNotDriven, "updateStrategy.rollingUpdate.maxUnavailable is 0, or cannot be read, so no pod may go, and nobody makes its successor before it has gone: set it to 1 or more, and maxSurge to 0")
		}
	}
	waves := c.waves
	s.Policy = &policyForecast{Name: g.policy.Name, Waves: []waveForecast{}, NoWaves: c.noWaves}
	for _, key := range unknownLabels(&g.policy, in.Nodes) {
		warn(warnNoSuchLabel, "the policy asks for the label %s, which no node has", key)
	}
	if loses := c.Count(forecast.Loses); in.Assisted && loses > 0 {
		warn(warnNotHeld, "the pods of %s go as soon as the change is applied: the DaemonSet controller of the cluster removes them, and the policy's guard cannot hold them", console.Counted(loses, "node"))
	}
	if held, may := forecast.Guarded(in, &g.policy); len(held) > 0 {
		so := ""
		if c.Stopped != "" {
			so = "; until then, the release does not get past wave " + c.Stopped
		}
		warn(warnHeld, "the policy's guard would hold the pods of the %s that lose it (%d may go in an hour), until somebody puts the change back or allows it (everynode rollout allow)%s", console.Counted(len(held), "node"), may, so)
		s.Policy.held = true
	}
	if n := len(waves); n > 0 {
		for _, text := range shrinking(&g.policy, waves[n-1].Total) {
			warn(warnAddsNothing, "%s", text)
		}
	}
	for _, w := range waves {
		wave := waveForecast{Wave: w.Name, Group: w.Group, Nodes: w.Nodes, Total: w.Total, AtATime: w.AtATime, StopsAt: w.StopsAt, Soak: w.Soak.Seconds(),
			Opens: w.Opens.Sub(in.Now).Seconds(), Ends: w.Ends.Sub(in.Now).Seconds(), OpensAt: w.Opens, EndsAt: w.Ends, Approval: w.Approval, Uncovered: w.Uncovered}
		s.Policy.Waves = append(s.Policy.Waves, wave)
		if n := len(w.Uncovered); n > 0 {
			warn(warnUncovered, "wave %s covers no node with %s %s", w.Name, strings.Join(coverOf(&g.policy, w.Name), "/"), strings.Join(w.Uncovered, ", "))
		}
	}
}

// stable returns a DaemonSet of the cluster with the template of its stable revision. That is its own template, unless
// a release is under way.
func (w *forecastWorld) stable(now *appsv1.DaemonSet) *appsv1.DaemonSet {
	hash := ""
	for i := range w.kept {
		if o := &w.kept[i]; o.Namespace == now.Namespace && o.Name == now.Name && o.IsOf(now.UID) {
			hash = o.Status.Stable
		}
	}
	for i := range w.templates[now.Namespace] {
		r := &w.templates[now.Namespace][i]
		if hash == "" || r.Labels[appsv1.ControllerRevisionHashLabelKey] != hash || !metav1.IsControlledBy(r, now) {
			continue
		}
		if at, err := view.AtRevision(now, r); err == nil {
			return at
		}
	}
	return now
}

// warnNeeded warns of ConfigMaps and Secrets that only the stable revision needs. A tool that applies manifests may
// delete them with the change, but the engine creates pods of that revision until the release is complete. Without a
// policy nobody does: only `kubectl rollout undo` needs them then, and a revert in git brings them back.
func (s *setForecast) warnNeeded(stable, next *appsv1.DaemonSet) {
	used := audit.References(&audit.Input{DaemonSets: []appsv1.DaemonSet{*next}})
	var names []string
	for _, ref := range audit.Needs(stable) {
		if !slices.Contains(used, ref) {
			names = append(names, string(ref.Kind)+" "+ref.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	it := "it"
	if len(names) > 1 {
		it = "them"
	}
	s.Warnings = append(s.Warnings, forecastWarning{warnNeeded, fmt.Sprintf("the new template no longer uses %s, but pods of the stable revision do not start without %s: keep %s until the release is complete, for new and restarted nodes and for going back",
		strings.Join(names, ", "), it, it)})
}

// print prints a line for each wave or group.
func (p *policyForecast) print(out io.Writer, width int) error {
	text := "policy " + p.Name + ": no waves: " + p.NoWaves
	if n := len(p.Waves); n > 0 {
		last := &p.Waves[n-1]
		text = fmt.Sprintf("policy %s: done after %s at the earliest (%s)",
			p.Name, roundTime(last.Ends), last.EndsAt.UTC().Format("Mon 2 Jan 15:04 MST"))
		if p.held {
			text += ", if what the guard holds is allowed at once"
		}
	}
	if _, err := fmt.Fprintln(out, strings.Join(console.Wrapped(text, width), "\n")); err != nil || len(p.Waves) == 0 {
		return err
	}
	t := console.NewTable(out, "WAVE", "NODES", "AT A TIME", "STOPS AT", "OPENS", "SOAK", "ENDS", "FIRST")
	for i := range p.Waves {
		w := &p.Waves[i]
		ends := roundTime(w.Ends).String()
		if w.Approval && (i+1 == len(p.Waves) || p.Waves[i+1].Wave != w.Wave) {
			ends += ", approved"
		}
		t.Row(strings.Trim(w.Wave+"/"+w.Group, "/"), fmt.Sprint(len(w.Nodes)), fmt.Sprint(w.AtATime), fmt.Sprintf("%d failed", w.StopsAt),
			roundTime(w.Opens).String(), roundTime(w.Soak).String(), ends, nodesText(w.Nodes, func(s string) string { return s }))
	}
	return t.Flush()
}

package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

// policy is a RolloutPolicy that chooses the DaemonSet.
type policy struct {
	is    rollout.Policy
	wrong rollout.Reason // why it cannot be followed; NoReason: it can
}

// keeper is the DaemonSetRollout: the controller owns state and guard, people own the rest.
type keeper struct {
	state     rollout.State
	guard     rollout.Guard
	requests  rollout.Requests
	heeded    rollout.Requests // those that the state was computed with
	allowance rollout.Allowance
	version   uint64
	uid       uint64 // the version in which it was created
}

// begins creates the first policy.
func (w *world) begins(p *rollout.Policy) {
	if p != nil {
		w.api.putPolicy(&policy{is: *p})
	}
}

func (a *api) putPolicy(p *policy) {
	a.policy = p
	a.next()
	a.log(policies, event{policy: a.policy})
}

func (a *api) putKeeper(change func(*keeper)) *keeper {
	o := keeper{uid: a.version + 1}
	if a.keeper != nil {
		o = *a.keeper
	}
	change(&o)
	o.version = a.next()
	a.keeper = &o
	a.log(rollouts, event{keeper: &o})
	return &o
}

// forget deletes the DaemonSetRollout, with what people have asked for.
func (a *api) forget() {
	if a.keeper == nil {
		return
	}
	clear(a.w.check.lost) // nobody knows any more what labels have taken away
	a.keeper = nil
	a.next()
	a.log(rollouts, event{gone: true})
}

// keep writes the state if the object still has that version; 0: it does not exist yet.
func (a *api) keep(s rollout.State, g rollout.Guard, version uint64) answer {
	if a.keeper != nil && a.keeper.version != version || a.keeper == nil && version != 0 {
		return answer{code: conflict}
	}
	a.w.tracef("api      release %d of %s over %s: %s %s, wave %s, quota %d", s.Release, s.Target, s.Stable, s.Phase, s.Reason, s.Wave, s.Quota)
	before := a.keeper
	after := a.putKeeper(func(o *keeper) { o.state, o.guard, o.heeded = s, g, o.requests })
	a.w.check.keeps(before, after)
	return answer{keeper: after}
}

// governs edits the policy, or deletes it.
func (w *world) governs(e Event) {
	if w.api.policy == nil {
		return
	}
	if e.Op == "unpolicy" {
		w.api.putPolicy(nil)
		return
	}
	edited := *w.api.policy
	p := &edited.is
	p.Waves = slices.Clone(p.Waves)
	d, _ := time.ParseDuration(e.Args[1])
	switch e.Args[0] {
	case "failures":
		p.Failure.Nodes = amount(e.Args[1])
	case "soak":
		for i := range p.Waves {
			p.Waves[i].Soak = d
		}
	case "startWithin":
		p.Failure.StartWithin = d
	case "back":
		p.Failure.Back = e.Args[1] == "yes"
	case "waves":
		p.Waves, _ = waves(e.Args[1], p.Waves)
	case "wrong":
		edited.wrong, _ = rollout.ReasonOf(e.Args[1])
	}
	w.api.putPolicy(&edited)
}

// waves reads NAME=N[%],... (-: nothing) and adds a last wave with all nodes. A wave that there was before keeps everything but its size; a new
// one is like the last one.
func waves(text string, before []rollout.Wave) (all []rollout.Wave, err error) {
	for _, word := range strings.Split(text+",all=100%", ",") {
		name, nodes, _ := strings.Cut(word, "=")
		if word == "" || word == "-" {
			continue
		}
		w := rollout.Wave{Name: name}
		for _, o := range before {
			if w.Soak = o.Soak; o.Name == name {
				w = o
				break
			}
		}
		w.Nodes, err = amount(nodes), cmp.Or(err, checkAmount(nodes))
		all = append(all, w)
	}
	return all, err
}

// request makes a person's request, about the release that is under way or the one before or after it.
func (w *world) request(what string, args ...string) {
	if w.api.keeper == nil {
		return
	}
	s, arg := &w.api.keeper.state, ""
	number := s.Release
	if n := len(args); n > 0 {
		arg = args[0]
		by, _ := strconv.Atoi(args[n-1])
		number = max(0, number+by)
	}
	w.api.putKeeper(func(o *keeper) {
		switch r := &o.requests; what {
		case "pause":
			r.Paused = arg == "yes"
		case "promote":
			r.Promote = rollout.Promotion{Release: number, Wave: arg, All: arg == "*"}
		case "abort":
			r.Abort = number
		case "retry":
			r.Retry = number
		case "resume":
			r.Resume = rollout.Resumption{Release: number, Stop: s.Stops}
		case "plain":
			r.Plain = number
		}
	})
}

const (
	approveEvery = time.Minute
	approvals    = 100
	impatient    = 20 // approvals: by then a release that can go on by itself is through
)

// approve does what a person does when everything is repaired: it restores the policy, and lets the release
// through or, if the scenario says so, takes it back.
func (w *world) approve() {
	if w.sc.Policy == nil {
		return
	}
	patient := *w.sc.Policy
	patient.Windows = nil
	patient.Failure.StartWithin, patient.Failure.Restarts = 10*time.Minute, 100
	w.api.putPolicy(&policy{is: patient})
	for i := range approvals {
		w.after(time.Duration(i+1)*approveEvery, func() {
			w.permitAll()
			o := w.api.keeper
			switch {
			case o == nil || w.backAsAsked():
				return
			case o.state.Target == o.state.Stable:
				if o.requests.Paused {
					w.request("pause", "no") // nodes may have missed the release
				}
				return
			}
			s := &o.state
			want := o.requests
			want.Paused, want.Promote = false, rollout.Promotion{Release: s.Release, All: true}
			want.Resume = rollout.Resumption{Release: s.Release, Stop: s.Stops}
			switch {
			case w.sc.EndsAborted && w.works(s.Stable) && s.Back && w.sc.Assists: // a person has to restore the template
				w.release(s.Stable)
			case w.sc.EndsAborted && w.works(s.Stable):
				want.Abort = s.Release
			case !w.works(s.Stable): // no node can go back to that
				want.Plain = s.Release
			case s.Back:
				want.Retry = s.Release
			}
			if want != o.requests {
				w.api.putKeeper(func(o *keeper) { o.requests = want })
			}
			if w.sc.Assists && i >= impatient && s.Grants() {
				deleteBroken(w.api)
			}
		})
	}
}

// deleteBroken does what a person does when pods that do not work use up the budget of a release beside another controller, and
// the turn of their nodes has not come: see "Not done yet" in docs/design/releases-in-waves.md.
func deleteBroken(a *api) {
	for _, p := range slices.Clone(a.pods) {
		if live(&p.Pod) && !p.Ready && p.Hash != a.set.spec.Hash {
			a.mark(p, false, 0)
		}
	}
}

// works reports whether pods of the revision start and keep running.
func (w *world) works(revision string) bool {
	b := w.sc.Revisions[revision]
	return revision == fixed || (b == Good || b == Slow || b == Lingers) && w.kubelets.pruned[revision] == ""
}

// backAsAsked reports whether the release was taken back at the end, and should stay so.
func (w *world) backAsAsked() bool {
	o := w.api.keeper
	return w.sc.EndsAborted && !w.sc.Assists && o != nil && o.state.Back && o.state.Target != o.state.Stable && w.works(o.state.Stable)
}

// endsAt returns what every node must have in the end.
func (w *world) endsAt() *plan.Spec {
	spec := w.api.set.spec
	if w.sc.Policy != nil && w.backAsAsked() {
		spec.Hash, spec.Generation = w.api.keeper.state.Stable, -1
		spec.Placement = w.sc.placement(spec.Hash)
	}
	return &spec
}

// parsePolicy reads a line of the section policy.
func (sc *Scenario) parsePolicy(words []string) (err error) {
	if sc.Policy == nil {
		p := rollout.Default()
		p.Waves = nil
		sc.Policy = &p
	}
	p := sc.Policy
	switch {
	case words[0] == "wave" && len(words) >= 4:
		w := rollout.Wave{Name: words[1], Nodes: amount(words[2])}
		w.Soak, err = time.ParseDuration(words[3])
		chooses(&w, words[4:])
		p.Waves = append(p.Waves, w)
	case words[0] == "window" && len(words) == 3:
		w := rollout.Window{Zone: time.UTC}
		w.From, err = strconv.Atoi(words[1])
		if w.To, _ = strconv.Atoi(words[2]); w.To <= w.From {
			err = fmt.Errorf("want two times, the first one first")
		}
		p.Windows = append(p.Windows, w)
	case words[0] == "failures" && len(words) == 2:
		p.Failure.Nodes, err = amount(words[1]), checkAmount(words[1])
	case words[0] == "restarts" && len(words) == 2:
		p.Failure.Restarts, err = strconv.Atoi(words[1])
	case words[0] == "startWithin" && len(words) == 2:
		p.Failure.StartWithin, err = time.ParseDuration(words[1])
	case words[0] == "removals" && len(words) == 2:
		p.Removals, err = amount(words[1]), checkAmount(words[1])
	case words[0] == "back":
		p.Failure.Back = true
	default:
		err = fmt.Errorf("unknown setting")
	}
	return err
}

// policyText formats the section policy as parsePolicy reads it.
func policyText(p *rollout.Policy) string {
	if p == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("-- policy --\n")
	for _, w := range p.Waves {
		fmt.Fprintf(&b, "wave %s %s %s%s\n", w.Name, written(w.Nodes), w.Soak, choice(&w))
	}
	for _, w := range p.Windows {
		fmt.Fprintf(&b, "window %d %d\n", w.From, w.To)
	}
	fmt.Fprintf(&b, "failures %s\nstartWithin %s\nrestarts %d\nremovals %s\n%s", written(p.Failure.Nodes), p.Failure.StartWithin, p.Failure.Restarts, written(p.Removals), map[bool]string{true: "back\n"}[p.Failure.Back])
	return b.String()
}

// chooses reads the words after a wave's soak, and choice formats them.
func chooses(w *rollout.Wave, words []string) {
	for _, word := range words {
		switch zone, prefers := strings.CutPrefix(word, "prefer:"); {
		case prefers:
			w.Prefer = map[string]string{"zone": zone}
		case word == "approval":
			w.Approval = true
		case word == "cover":
			w.Cover = []string{"zone"}
		case word == "oneAtATime":
			w.OneAtATime = "zone"
		}
	}
}

func choice(w *rollout.Wave) string {
	var b strings.Builder
	if zone, prefers := w.Prefer["zone"]; prefers {
		b.WriteString(" prefer:" + zone)
	}
	if w.Approval {
		b.WriteString(" approval")
	}
	if len(w.Cover) > 0 {
		b.WriteString(" cover")
	}
	if w.OneAtATime != "" {
		b.WriteString(" oneAtATime")
	}
	return b.String()
}

func written(a plan.Amount) string {
	return strconv.Itoa(a.Value) + map[bool]string{true: "%"}[a.Percent]
}

package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"everynode/internal/delivery"
	"everynode/internal/plan"
)

// operations are the events that can happen, each with the number of words that must follow it. If NODE does
// not exist, nothing happens.
var operations = map[string]int{
	"edit":     1, // REVISION: the template changes
	"set":      2, // maxUnavailable|maxSurge N[%]; minReady DURATION; strategy OnDelete|RollingUpdate
	"join":     1, // NODE [POOL [ZONE]]
	"leave":    1, // NODE: its Node object is deleted
	"break":    1, // NODE: the kubelet falls silent
	"mend":     1, // NODE
	"label":    2, // NODE POOL
	"zone":     2, // NODE ZONE
	"taint":    2, // NODE NoSchedule|NoExecute|PreferNoSchedule
	"untaint":  1, // NODE
	"cordon":   1, // NODE
	"drain":    1, // NODE: it is being drained, and says so
	"undrain":  1, // NODE
	"full":     1, // NODE: the kubelet refuses pods, and the scheduler places none
	"misfit":   1, // NODE: the kubelet refuses pods, but the scheduler still places them
	"forbid":   1, // NODE: the kubelet refuses pods permanently
	"room":     1, // NODE: the kubelet accepts pods again
	"schedule": 1, // yes|no: the scheduler works
	"delete":   1, // NODE: someone deletes its pods
	"force":    1, // NODE: without a grace period
	"evict":    1, // NODE: someone evicts every pod there as it comes
	"spare":    1, // NODE: that stops
	"fail":     1, // NODE: its pods end, as if evicted by the kubelet
	"unready":  1, // NODE: its pods stop being ready
	"ready":    1, // NODE: its pods become ready again
	"relabel":  1, // NODE: another controller gives its pods the current revision (not with surge)
	"quota":    1, // N|off: how many pods there may be
	"ban":      1, // NODE: admission refuses its pods
	"choke":    1, // NODE: admission answers 429 for its pods
	"allow":    1, // NODE: ban and choke end
	"guard":    1, // NODE: admission refuses to delete its pods
	"unguard":  1, // NODE
	"busy":     2, // NODE DURATION: someone changes its pods all the time, in fields that do not matter
	"clock":    2, // api|nodes|engine|NODE DURATION: a clock jumps, to be ahead of the true time by DURATION
	"closing":  1, // yes|no: the namespace is being deleted
	"stall":    2, // sets|nodes|pods|policies|rollouts DURATION: watches deliver nothing
	"cut":      1, // sets|nodes|pods|policies|rollouts [resume]: watches end, and list again or resume
	"still":    1, // DURATION: the DaemonSet controller of the cluster does nothing (with assists)
	"twice":    1, // NODE: that controller creates another pod there, as after a restart, before it sees its last one
	"ghost":    1, // NODE: watches show its deletion, although it is there
	"crash":    1, // before|during|after: the controller dies at its next write
	"freeze":   1, // DURATION: the controller stands still
	"overlap":  1, // DURATION: a second controller runs beside the first, then takes over
	"faults":   0, // lost=N late=N throttled=N slow=N (percent) latency=DURATION lag=DURATION
	"prune":    1, // waits|fails: something that the stable revision needs is gone, such as its ConfigMap: its new pods wait, or fail; running pods are not affected
	"nothing":  0,
	"restart":  0, // the controller is stopped, and another one started
	"vanish":   1, // NODE: leaves, and joins again at once
	"rollback": 0, // to the revision before
	"policy":   2, // failures N; soak DURATION; startWithin DURATION; back yes|no; waves NAME=N[%],... or -; wrong PolicyUnreadable|SeveralPolicies|-: the policy is edited
	"unpolicy": 0, // the policy is deleted
	"forget":   0, // the DaemonSetRollout is deleted
	"pause":    1, // yes|no: a request of people about the release that is under way
	"promote":  1, // WAVE|*; this and the next ones, with -1 or +1: for the previous release, or for the next one
	"abort":    0,
	"retry":    0,
	"resume":   0,
	"permit":   2, // N DURATION: N nodes may lose their pods within DURATION
	"pool":     1, // POOL: every node gets that label
	"plain":    0,
	"engine":   1, // old|new: what is started from now on, beginning at once, is of a version that does not know changes in place, or of this one
}

var resourceNames = map[string]resource{"sets": sets, "nodes": nodes, "pods": pods, "policies": policies, "rollouts": rollouts}
var crashes = map[string]crash{"before": beforeSending, "during": beforeAnswer, "after": afterAnswer}
var effects = map[string]plan.Effect{"NoSchedule": plan.NoSchedule, "NoExecute": plan.NoExecute, "PreferNoSchedule": plan.PreferNoSchedule}

// happen carries out an event that Parse has accepted.
func (w *world) happen(e Event) {
	w.tracef("event    %s %s", e.Op, strings.Join(e.Args, " "))
	arg := ""
	if len(e.Args) > 0 {
		arg = e.Args[0]
	}
	switch e.Op {
	case "edit", "set", "rollback", "closing", "quota", "ban", "choke", "allow", "schedule", "guard", "unguard", "clock":
		w.administer(e, arg)
	case "delete", "force", "fail", "unready", "ready", "relabel":
		w.api.on(arg, func(p *pod) { w.meddle(e.Op, p) })
	case "evict", "spare":
		w.kubelets.evicts[arg] = e.Op == "evict"
		w.kubelets.kick(arg)
	case "busy":
		d, _ := time.ParseDuration(e.Args[1])
		w.busy(arg, w.now+d)
	case "stall", "cut", "ghost":
		w.disturb(e, arg)
	case "still":
		if d, _ := time.ParseDuration(arg); w.builtin != nil {
			w.builtin.still = w.now + d
		}
	case "crash", "freeze", "overlap", "restart", "engine":
		w.harm(e, arg)
	case "twice":
		if w.builtin != nil && w.builtin.set != nil && w.api.node(arg) != nil {
			w.builtin.create(arg)
		}
	case "faults":
		w.faults = faults(e.Args)
	case "prune":
		w.kubelets.prune(arg)
	case "policy", "unpolicy":
		w.governs(e)
	case "forget":
		w.api.forget()
	case "permit":
		d, _ := time.ParseDuration(e.Args[1])
		w.permit(arg, d)
	case "pool":
		w.relabelAll(arg)
	case "pause", "promote", "abort", "retry", "resume", "plain":
		w.request(e.Op, e.Args...)
	default:
		w.nodeEvent(e, arg)
	}
}

func (w *world) administer(e Event, arg string) {
	switch e.Op {
	case "edit":
		w.release(arg)
	case "rollback":
		for _, c := range slices.Backward(w.api.logs[sets]) {
			if c.set.spec.Hash != w.api.set.spec.Hash {
				w.release(c.set.spec.Hash)
				return
			}
		}
	case "set":
		w.edit(func(s *plan.Spec) { setting(s, arg, e.Args[1]) })
	case "quota":
		w.api.quota = -1
		if n, err := strconv.Atoi(arg); err == nil {
			w.api.quota = n
		}
	case "ban":
		w.api.banned[arg] = true
	case "choke":
		w.api.choked[arg] = true
	case "allow":
		delete(w.api.banned, arg)
		delete(w.api.choked, arg)
	case "guard":
		w.api.guarded[arg] = true
	case "unguard":
		delete(w.api.guarded, arg)
	case "clock":
		d, _ := time.ParseDuration(e.Args[1])
		w.setClock(arg, d)
	case "closing":
		w.api.terminating = arg == "yes"
	case "schedule":
		if w.api.unscheduled = arg == "no"; !w.api.unscheduled {
			for _, n := range slices.Clone(w.api.nodes) {
				w.kubelets.kick(n.Name)
			}
		}
	}
}

func setting(s *plan.Spec, key, value string) {
	switch key {
	case "maxUnavailable":
		s.MaxUnavailable = amount(value)
	case "maxSurge":
		s.MaxSurge = amount(value)
	case "minReady":
		s.MinReady, _ = time.ParseDuration(value)
	case "strategy":
		s.Strategy = map[string]plan.Strategy{"OnDelete": plan.OnDelete}[value]
	}
}

// meddle does to a pod what others do.
func (w *world) meddle(op string, p *pod) {
	running := p.Phase == plan.Running && p.Deleted.IsZero()
	switch {
	case op == "delete" && p.Deleted.IsZero():
		w.api.mark(p, false, 0)
	case op == "force":
		w.api.mark(p, true, 0)
	case op == "fail" && running:
		w.api.putPod(p, func(p *pod) { p.Phase, p.Ready = plan.Failed, false })
	case op == "unready" && running:
		w.kubelets.ready(p.UID, false)
	case op == "ready" && running:
		w.kubelets.ready(p.UID, true)
	case op == "relabel" && live(&p.Pod) && p.Hash != w.api.set.spec.Hash && w.api.set.spec.MaxSurge.Value == 0:
		w.api.putPod(p, func(p *pod) {
			p.Hash, p.renamed, p.unfit = w.api.set.spec.Hash, true, true
		})
	}
}

// busy keeps changing the pods of a node, in fields that do not matter.
func (w *world) busy(node string, until time.Duration) {
	if w.now > until || w.healed {
		return
	}
	w.api.on(node, func(p *pod) { w.api.putPod(p, func(*pod) {}) })
	w.after(w.between(5*time.Millisecond, 50*time.Millisecond), func() { w.busy(node, until) })
}

// disturb makes something happen to watches.
func (w *world) disturb(e Event, arg string) {
	for _, s := range slices.Clone(w.api.streams) {
		if s.resource != resourceNames[arg] && e.Op != "ghost" || e.Op == "ghost" && s.resource != nodes {
			continue
		}
		switch e.Op {
		case "stall":
			d, _ := time.ParseDuration(e.Args[1])
			s.stall(d)
		case "cut":
			s.cut(slices.Contains(e.Args, "resume"))
		case "ghost":
			if n := w.api.node(arg); n != nil && s.connected {
				s.to.index.event(nodes, event{node: n, gone: true})
				s.cut(false)
			}
		}
	}
}

// harm makes something happen to the controller.
func (w *world) harm(e Event, arg string) {
	if e.Op == "engine" {
		w.old = arg == "old"
	}
	if len(w.controllers) == 0 {
		return
	}
	c := w.controllers[0]
	d, _ := time.ParseDuration(arg)
	switch e.Op {
	case "crash":
		c.crash = crashes[arg]
	case "restart", "engine":
		w.perish(c)
	case "freeze":
		w.freeze(c, d)
	case "overlap":
		if len(w.controllers) == 1 {
			w.launch()
			c.later(d, c.die)
		}
	}
}

// freeze makes the process stand still. Once its lease is over another process starts, and this one exits
// when it wakes up. Until then its answers and events wait.
func (w *world) freeze(c *controller, d time.Duration) {
	if c.frozen > w.now {
		return
	}
	c.frozen = w.now + d
	if d < delivery.RenewDeadline {
		return
	}
	c.lost = true
	w.after(d, c.die)
	w.lease = w.now + c.term()
	w.succeed(c.term())
}

// labels returns those of a node.
func labels(pool, zone string) map[string]string {
	if zone == "" {
		return map[string]string{"pool": pool}
	}
	return map[string]string{"pool": pool, "zone": zone}
}

func (w *world) nodeEvent(e Event, name string) {
	k := w.kubelets
	n := w.api.node(name)
	switch e.Op {
	case "join":
		of := append(slices.Clone(e.Args[1:]), "", "")
		k.join(name, labels(of[0], of[1]), nil)
		return
	case "leave":
		k.leave(name)
		return
	case "break":
		k.breakNode(name)
		return
	case "mend":
		k.mendNode(name)
		return
	case "vanish":
		if n != nil {
			k.leave(name)
			k.join(name, n.Labels, without(n.Taints, notReadyTaint.Key))
		}
		return
	}
	if n == nil {
		return
	}
	w.api.putNode(name, func(n *node) {
		switch e.Op {
		case "label":
			n.Labels = labels(e.Args[1], n.Labels["zone"])
		case "zone":
			n.Labels = labels(n.Labels["pool"], e.Args[1])
		case "taint":
			n.Taints = with(n.Taints, plan.Taint{Key: "k", Effect: effects[e.Args[1]]})
		case "untaint":
			n.Taints = without(n.Taints, "k")
		case "cordon":
			n.cordon = true
		case "drain", "undrain":
			n.Leaving = e.Op == "drain"
		case "full", "misfit", "forbid", "room":
			n.full, n.misfit, n.forbids = e.Op == "full", e.Op == "misfit", e.Op == "forbid"
		}
	})
	k.kick(name)
}

// faults reads the words of the event, which Parse has checked.
func faults(args []string) Faults {
	f := calm()
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		n, _ := strconv.Atoi(value)
		d, _ := time.ParseDuration(value)
		switch key {
		case "lost":
			f.Lost = n
		case "late":
			f.Late = n
		case "throttled":
			f.Throttled = n
		case "slow":
			f.Slow = n
		case "latency":
			f.Latency = d
		case "lag":
			f.Lag = d
		}
	}
	return f
}

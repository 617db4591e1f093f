package engine

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/plan"
	"everynode/internal/rollout"
)

const metricPrefix = "everynode_"

// maxListed is how many DaemonSets have their own metrics; listed says which. The sums include
// all DaemonSets.
const maxListed = 500

// notEligible is the reason for nodes about which a DaemonSet keeps nothing: they have no pod and
// should have none. `everynode why` gives the individual reasons.
const notEligible = "NotEligible"

// descs describe the metrics that are computed when they are scraped.
type descs struct {
	all []*prometheus.Desc

	leader, queue, waiting, underway, window, nodes, pods, sets, listed, kinds, behind, skew *prometheus.Desc
	reasons                                                                                  *prometheus.Desc // reason

	// About one DaemonSet: namespace, daemonset; the budget also kind.
	desired, current, ready, available, updated, misscheduled, retrying, budget, spent *prometheus.Desc

	// About one that follows a policy: also phase and reason, or state.
	phase, release, wave, waves, soak *prometheus.Desc
}

func newDescs() (d descs) {
	add := func(name, help string, labels ...string) *prometheus.Desc {
		desc := prometheus.NewDesc(metricPrefix+name, help, labels, nil)
		d.all = append(d.all, desc)
		return desc
	}
	d.leader = add("leader", "1 while this process works, 0 while it stands by.")
	d.queue = add("queue_depth", "DaemonSets that wait for a decision.")
	d.waiting = add("writes_waiting", "Creates, deletes and changes of pods that are decided but have not started.")
	d.underway = add("writes_under_way", "Creates, deletes and changes of pods that are under way.")
	d.window = add("writes_window", "How many creates, deletes and changes may currently be under way at once.")
	d.nodes = add("nodes", "Nodes of the cluster.")
	d.pods = add("pods", "Pods of DaemonSets, and those that one could adopt.")
	d.sets = add("daemonsets", "DaemonSets of the cluster.")
	d.listed = add("daemonsets_listed", "DaemonSets with their own metrics, 500 at most: those of kube-system, kube-public and kube-node-lease, then by name the first of each namespace, the second, and so on. The others appear only in the sums over DaemonSets.")
	d.kinds = add("rollout_kinds_missing", "Kinds of releases in waves that the cluster lacks, although it had them or a DaemonSet names a RolloutPolicy.")
	d.behind = add("watch_lag_seconds", "How long the oldest own write to a pod has waited for the watch to show it.")
	d.skew = add("clock_skew_seconds", "How far the clock of this machine is ahead of the API server's, as last seen.")
	d.reasons = add("daemonset_nodes", "Nodes by the decision about them, summed over DaemonSets.", "reason")
	of := func(name, help string, more ...string) *prometheus.Desc {
		return add("daemonset_"+name, help, append([]string{"namespace", "daemonset"}, more...)...)
	}
	d.desired = of("desired_nodes", "Nodes that should run a pod of the DaemonSet.")
	d.current = of("current_nodes", "Nodes that should run a pod and have one.")
	d.ready = of("ready_nodes", "Nodes that should run a pod and have one that is ready.")
	d.available = of("available_nodes", "Nodes that should run a pod and have one that is available.")
	d.updated = of("updated_nodes", "Nodes that should run a pod and have one of the current revision.")
	d.misscheduled = of("misscheduled_nodes", "Nodes that should not run a pod and have one.")
	d.retrying = of("retrying_nodes", "Nodes where a write has failed and is tried again later.")
	d.budget = of("budget_nodes", "Nodes that the update strategy allows to be down, or to surge, at once.", "kind")
	d.spent = of("budget_used_nodes", "Nodes that are down, or surge, now; this can exceed the budget if nodes failed by themselves.", "kind")
	d.phase = of("release_phase", "1 for the current phase of the DaemonSet's releases and its reason, as in its DaemonSetRollout.", "phase", "reason")
	d.release = of("release_nodes", "Nodes in the release that is under way: exposed to the target, well with it, under way, failed. And held: nodes whose pods would go because of labels or the placement, but are kept by the guard.", "state")
	d.wave = of("release_wave", "The number of the open wave; 0: none is open.")
	d.waves = of("release_waves", "How many waves the policy has; 0: it cannot be read.")
	d.soak = of("release_soak_left_seconds", "How long the open wave still has to soak, as last recorded; 0 while none soaks.")
	return d
}

// Describe implements prometheus.Collector.
func (m *Monitor) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.counters.list() {
		c.Describe(out)
	}
	for _, d := range m.descs.all {
		out <- d
	}
}

// Collect implements prometheus.Collector. It looks at every node of every
// DaemonSet once.
func (m *Monitor) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.counters.list() {
		c.Collect(out)
	}
	m.mu.Lock()
	ix, term, working := m.index, m.term, m.working
	m.mu.Unlock()
	gauge := gauges(func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	})
	if skew, known := m.requests.clockSkew(); known {
		gauge(m.descs.skew, skew.Seconds())
	}
	if ix != nil {
		m.collectIndex(ix, gauge)
	}
	if !working {
		gauge(m.descs.leader, 0)
		return
	}
	gauge(m.descs.leader, 1)
	gauge(m.descs.queue, float64(term.queue.Len()))
	l := term.apply.load()
	gauge(m.descs.waiting, float64(l.waiting))
	gauge(m.descs.underway, float64(l.underway))
	gauge(m.descs.window, float64(l.window))
	m.collectSets(term, gauge)
}

// gauges takes the value of a gauge.
type gauges func(d *prometheus.Desc, value float64, labels ...string)

func (m *Monitor) collectIndex(ix *index, gauge gauges) {
	s := ix.size(time.Now())
	gauge(m.descs.nodes, float64(s.nodes))
	gauge(m.descs.pods, float64(s.pods))
	gauge(m.descs.sets, float64(s.sets))
	gauge(m.descs.behind, s.lag.Seconds())
	gauge(m.descs.kinds, float64(len(s.missing)))
}

// size is how many objects the index has, and how far its watch of pods lags; and which kinds are missing (kinds.go).
type size struct {
	nodes, pods, sets int
	lag               time.Duration
	missing           []string
	named             int
}

func (ix *index) size(now time.Time) size {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	s := size{nodes: len(ix.nodes), pods: len(ix.pods), sets: len(ix.sets)}
	s.missing, s.named = ix.releases.kinds.missing(ix.sets)
	for uid, since := range ix.ahead {
		if e := ix.pods[uid]; e != nil && e.version > ix.podVersion {
			s.lag = max(s.lag, now.Sub(since))
		}
	}
	return s
}

// load is how much work the applier has.
type load struct{ waiting, underway, window int }

func (a *applier) load() load {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := load{underway: a.all.busy, window: a.all.size}
	for _, lane := range a.lanes {
		l.waiting += lane.waiting
	}
	return l
}

// collectSets looks at the DaemonSets that have been decided on, one at a time:
// a decision about one waits while it is counted.
func (m *Monitor) collectSets(e *engine, gauge gauges) {
	e.mu.Lock()
	states := maps.Clone(e.states)
	e.mu.Unlock()
	keys := listed(slices.Collect(maps.Keys(states)), func(key types.NamespacedName) bool { return e.index.keptRelease(key).tells() })
	nodes := e.index.size(time.Now()).nodes
	reasons := map[plan.Reason]int{}
	without := 0
	for i, key := range keys {
		t := states[key].tally(reasons)
		without += max(nodes-t.kept, 0)
		if i < maxListed {
			m.collectSet(key, &t, gauge)
			m.collectRelease(key, e.index.keptRelease(key), &t.totals, gauge)
		}
	}
	gauge(m.descs.listed, float64(min(len(keys), maxListed)))
	for reason, n := range reasons {
		gauge(m.descs.reasons, float64(n), reason.String())
	}
	gauge(m.descs.reasons, float64(without), notEligible)
}

// listed sorts DaemonSets so that those whose metrics matter most come first: those of the
// cluster itself, then one of each namespace in turn, so that no namespace can crowd out the
// others. In each turn, those whose release people may have to be told of come first.
func listed(keys []types.NamespacedName, tells func(types.NamespacedName) bool) []types.NamespacedName {
	rank := make(map[types.NamespacedName]int, len(keys))
	for _, key := range keys {
		if !tells(key) {
			rank[key] = 1
		}
	}
	slices.SortFunc(keys, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(rank[a], rank[b]), cmp.Compare(a.Name, b.Name))
	})
	turn, taken := make(map[types.NamespacedName]int, len(keys)), map[string]int{}
	for _, key := range keys {
		switch key.Namespace {
		case metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease:
		default:
			taken[key.Namespace]++
			turn[key] = taken[key.Namespace]
		}
	}
	slices.SortStableFunc(keys, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(turn[a], turn[b]), cmp.Compare(rank[a], rank[b]))
	})
	return keys
}

func (m *Monitor) collectSet(key types.NamespacedName, t *setTally, gauge gauges) {
	d, s := &m.descs, &t.totals.Status
	for _, of := range []struct {
		desc  *prometheus.Desc
		value int
	}{
		{d.desired, s.Desired}, {d.current, s.Current}, {d.ready, s.Ready}, {d.available, s.Available},
		{d.updated, s.Updated}, {d.misscheduled, s.Misscheduled}, {d.retrying, t.retrying},
	} {
		gauge(of.desc, float64(of.value), key.Namespace, key.Name)
	}
	for kind, of := range map[string][2]int{"unavailable": {t.maxUnavailable, t.totals.Down}, "surge": {t.maxSurge, t.totals.Surging}} {
		gauge(d.budget, float64(of[0]), key.Namespace, key.Name, kind)
		gauge(d.spent, float64(of[1]), key.Namespace, key.Name, kind)
	}
}

// keptRelease is the recorded state of a DaemonSet's releases, in numbers.
type keptRelease struct {
	phase       string // empty: it follows no policy
	reason      string
	wave, waves int
	soak        time.Duration // what is left of it
}

// tells reports whether it says more than that no release is under way.
func (k keptRelease) tells() bool {
	return k.phase != "" && (k.phase != rollout.Idle.String() || k.reason != "")
}

func (ix *index) keptRelease(key types.NamespacedName) (k keptRelease) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	e := ix.releases.rollouts[key]
	if e == nil || e.object.Status.Stable == "" && e.object.Status.Phase == rollout.Idle.String() {
		return k
	}
	s := &e.object.Status
	k.phase, k.reason = s.Phase, s.Reason
	if s.Policy == nil || ix.releases.policies[s.Policy.Name] == nil {
		return k
	}
	waves := ix.releases.policies[s.Policy.Name].policy.Waves
	k.waves = len(waves)
	if s.Wave == nil {
		return k
	}
	i := slices.IndexFunc(waves, func(w rollout.Wave) bool { return w.Name == s.Wave.Name })
	if k.wave = i + 1; i >= 0 && s.Phase == rollout.Soaking.String() {
		k.soak = max(waves[i].Soak-s.Wave.Soaked.Duration, 0)
	}
	return k
}

func (m *Monitor) collectRelease(key types.NamespacedName, k keptRelease, t *plan.Totals, gauge gauges) {
	if k.phase == "" {
		return
	}
	d, of := &m.descs, &t.Exposure
	gauge(d.phase, 1, key.Namespace, key.Name, k.phase, k.reason)
	for state, n := range map[string]int{"exposed": of.Exposed, "well": of.Well, "under-way": of.UnderWay, "failed": of.Failed, "held": t.Guarded} {
		gauge(d.release, float64(n), key.Namespace, key.Name, state)
	}
	gauge(d.wave, float64(k.wave), key.Namespace, key.Name)
	gauge(d.waves, float64(k.waves), key.Namespace, key.Name)
	gauge(d.soak, k.soak.Seconds(), key.Namespace, key.Name)
}

// setTally has the counts of one DaemonSet.
type setTally struct {
	totals                   plan.Totals
	kept                     int // nodes that it keeps a verdict for
	maxUnavailable, maxSurge int
	retrying                 int
}

// tally counts the DaemonSet, and adds its nodes to reasons.
func (s *state) tally(reasons map[plan.Reason]int) (t setTally) {
	s.looking.Lock()
	t.totals = s.ledger.Totals()
	t.maxUnavailable, t.maxSurge = s.ledger.Spec().Budget(t.totals.Status.Desired)
	s.ledger.Nodes(func(v *plan.Verdict) {
		t.kept++
		reasons[v.Reason]++
	})
	s.looking.Unlock()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, slots := range s.retries.slots {
		if slices.ContainsFunc(slots, func(r retry) bool { return r.at.After(now) }) {
			t.retrying++
		}
	}
	t.retrying += len(s.trial.refused)
	return t
}

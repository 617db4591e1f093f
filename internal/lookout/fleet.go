package lookout

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/fleetview"
	"everynode/internal/why"
)

// Fleet is what is seen of all DaemonSets of a cluster or a namespace: one Lookout for each, which share one watch
// for each resource. It is safe for concurrent use.
type Fleet struct {
	*feed
	namespace string
	followed
	ask chan struct{} // has a value while there are new questions

	// The fields below are read and written with the feed's lock held.
	known   *sightings
	reasons []fleetview.Reason
	frame   frame
	table   []fleetview.Node // by place
}

// stand is one DaemonSet, and what was last seen of it.
type stand struct {
	*Lookout
	unseen bool      // the last list of DaemonSets did not have it
	dirty  bool      // something has changed since
	wake   time.Time // when it changes only because time passes; zero: never
	set    *fleetview.Set
	rows   []why.Row
}

// NewFleet returns the fleet of a namespace; "" means all. If releases cannot be read, everything else can be seen.
func NewFleet(ctx context.Context, client kubernetes.Interface, releases Releases, namespace string) *Fleet {
	feed := newFeed(client)
	f := &Fleet{feed: feed, namespace: namespace, ask: make(chan struct{}, 1), known: newSightings(feed)}
	f.reasons, f.frame.numbers = reasonNumbers()
	f.frame.places = map[string]int{}
	f.followed = releases.in(ctx, client.Discovery(), namespace, metav1.ListOptions{}, true)
	f.expect(f.sources())
	return f
}

// Follow keeps the fleet up to date until ctx ends.
func (f *Fleet) Follow(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range f.sources() {
		all.Go(func() { s.follow(ctx) })
	}
	all.Go(func() { answer(ctx, f.ask, f) })
	all.Wait()
}

// See returns the current State, and when it changes only because time passes (zero: never). The State is nil until
// everything was read once. See looks again only at DaemonSets that have changed.
func (f *Fleet) See(now time.Time) (s *fleetview.State, wake time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fatal != nil || len(f.unread) > 0 {
		return nil, wake, f.fatal
	}
	f.known.forgetUnseen()
	if f.known.moved {
		f.settle()
	}
	s = &fleetview.State{At: now.UnixMilli(), Stale: f.stale(), Hidden: f.hidden, Reasons: f.reasons, Nodes: f.table, Sets: []*fleetview.Set{}}
	questions := false
	for _, d := range f.known.sorted() {
		if d.dirty || !d.wake.IsZero() && !d.wake.After(now) {
			d.see(&f.frame, now)
		}
		if s.Sets = append(s.Sets, d.set); !d.wake.IsZero() && (wake.IsZero() || d.wake.Before(wake)) {
			wake = d.wake
		}
		questions = questions || len(d.asked) > 0
	}
	if questions {
		poke(f.ask)
	}
	return s, wake, nil
}

// see looks at the DaemonSet again. If it cannot be read, its Set says so, and the others are not affected.
func (d *stand) see(f *frame, now time.Time) {
	d.dirty = false
	forgetNodes(d.reached, d.nodes)
	forgetNodes(d.heardOf, d.nodes)
	rows, err := d.Lookout.rows(now)
	if err != nil {
		d.wake, d.asked = time.Time{}, nil // only a change makes it readable
		cells := make(fleetview.Cells, f.size)
		for i := range cells {
			cells[i].Wave = uint8(fleetview.NoWave)
		}
		d.set = &fleetview.Set{Head: fleetview.Head{Namespace: d.namespace, Name: d.name, Phase: "cannot be read", Stopped: err.Error()}, Findings: []fleetview.Finding{},
			History: fleetview.History{Revisions: []fleetview.Revision{}, Moments: []fleetview.Moment{}}, Cells: cells}
		return
	}
	d.rows = rows
	d.set, d.wake = d.sight(f, rows, now)
}

// settle gives each node a place. Nodes keep their places, and a new node gets the first free one.
func (f *Fleet) settle() {
	f.known.moved = false
	table := slices.Clone(f.table) // the last table may still be in use
	for name, place := range f.frame.places {
		if _, there := f.known.nodes[name]; !there {
			delete(f.frame.places, name)
			table[place] = fleetview.Node{}
		}
	}
	free := 0
	for _, name := range slices.SortedFunc(maps.Keys(f.known.nodes), why.Naturally) {
		place, placed := f.frame.places[name]
		if !placed {
			for free < len(table) && table[free].Name != "" {
				free++
			}
			if place = free; place == len(table) {
				table = append(table, fleetview.Node{})
			}
			f.frame.places[name] = place
		}
		table[place] = seenNode(f.known.nodes[name])
	}
	f.table, f.frame.size = table, len(table)
}

// poolLabels are the labels for a node's pool at its provider, or its kind of machine. The first that a node has
// counts.
func poolLabels() []string {
	return []string{"cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup", "karpenter.sh/nodepool", "kubernetes.azure.com/agentpool",
		"node.openshift.io/nodepool", "node-pool", "pool", corev1.LabelInstanceTypeStable}
}

func seenNode(n node) fleetview.Node {
	out := fleetview.Node{Name: n.Name, Zone: n.zone}
	for _, label := range poolLabels() {
		if out.Pool = n.Labels[label]; out.Pool != "" {
			break
		}
	}
	if !n.Ready {
		out.Down, out.Since = cmp.Or(n.said, "it is not Ready"), n.ReadyChanged.UnixMilli()
	}
	if len(n.Taints) > 0 {
		out.Held = n.Taints[0].Key
	}
	return out
}

// Ask reads events about the rows that the last State had questions about. The next State shows the answers.
func (f *Fleet) Ask(ctx context.Context) error {
	for _, d := range f.asking() {
		if err := d.Ask(ctx); err != nil {
			return err
		}
		f.mu.Lock()
		d.dirty = true
		f.mu.Unlock()
	}
	return nil
}

// asking returns the DaemonSets with questions.
func (f *Fleet) asking() []*stand {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(f.known.sorted(), func(d *stand) bool { return len(d.asked) == 0 })
}

func (f *Fleet) questions() bool { return len(f.asking()) > 0 }

func (f *Fleet) asksMore() bool {
	all := f.asking()
	return len(all) == 0 || slices.ContainsFunc(all, func(d *stand) bool { return d.asksMore() })
}

package lookout

import (
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/fleetmap"
	"everynode/internal/plan"
	"everynode/internal/view"
	"everynode/internal/why"
)

// Picture is what is seen at one moment.
type Picture struct {
	Model fleetmap.Model
	// Done is whether every node that is Ready and should have a pod has one of the current revision that is
	// available, and a release in waves, if there was one, is through.
	Done bool
	// Stopped is why the update cannot continue by itself; "" if no reason is known.
	Stopped string
	// There is how many nodes have reached Revision.
	There    int
	Revision string
	// WakeAt is when the picture changes only because time passes; zero: never.
	WakeAt time.Time
}

// See makes a picture. With patient it leaves out what may be over in a minute. It is nil until everything was read
// once.
func (l *Lookout) See(now time.Time, patient bool) (*Picture, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.fatal != nil:
		return nil, l.fatal
	case l.set == nil:
		return nil, fmt.Errorf("DaemonSet %s/%s was deleted", l.namespace, l.name)
	case len(l.unread) > 0:
		return nil, nil
	}
	rows, err := l.rows(now)
	if err != nil {
		return nil, err
	}
	forgetNodes(l.reached, l.nodes)
	forgetNodes(l.heardOf, l.nodes)
	p := newPainter(l, now, patient)
	p.paint(rows)
	if l.asked = p.questions; len(l.asked) > 0 {
		poke(l.ask)
	}
	return &p.out, nil
}

func newPainter(l *Lookout, now time.Time, patient bool) *painter {
	return &painter{Lookout: l, policy: l.policy(), now: now, patient: patient, findings: map[finding]*found{}, before: map[string]int{}}
}

func forgetNodes[T any](of map[string]T, nodes map[string]node) {
	maps.DeleteFunc(of, func(name string, _ T) bool { _, there := nodes[name]; return !there })
}

// rows are what `everynode why` says about each node, without what only events show.
func (l *Lookout) rows(now time.Time) ([]why.Row, error) {
	nodes, silent := make([]plan.Node, 0, len(l.nodes)), map[string]string{}
	for _, n := range l.nodes {
		if nodes = append(nodes, n.Node); !n.Ready {
			silent[n.Name] = n.said
		}
	}
	var read []*view.Revision
	var objects []appsv1.ControllerRevision
	for _, r := range l.revisions {
		read, objects = append(read, r.read), append(objects, *r.object)
	}
	l.scene = why.NewScene(l.set, nodes, silent, slices.Collect(maps.Values(l.pods)), read)
	if l.rollout != nil {
		l.scene.Release(l.rollout, objects)
	}
	return l.scene.Rows(now)
}

// clock formats a time for people: as a time of day, or as a date if it is long before now.
func clock(at, now time.Time) string {
	switch {
	case at.IsZero():
		return ""
	case now.Sub(at) < 12*time.Hour:
		return at.Local().Format("15:04:05")
	}
	return at.Local().Format("2 Jan")
}

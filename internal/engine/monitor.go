package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection"
)

// Monitor shows the state of an engine: whether it is healthy and ready, and, as a
// prometheus.Collector, its metrics. Make one with NewMonitor and put it into Config. It may be
// used at any time and concurrently.
//
// It must not add to the cost of an event: metrics are counted where requests are made, or
// computed when they are scraped.
type Monitor struct {
	counters
	descs    descs
	requests requests

	mu      sync.Mutex
	index   *index                     // nil until the watches have begun
	synced  map[string]<-chan struct{} // by resource
	elector *leaderelection.LeaderElector
	term    *engine // nil while this process does not lead
	working bool    // the term has begun to write
	ended   bool
	// pending is what the engine waits for before it works, and why it is missing; empty:
	// nothing.
	pending string
	missing []string // permissions
}

// NewMonitor returns a Monitor for a single call of Run.
func NewMonitor() *Monitor {
	return &Monitor{counters: newCounters(), descs: newDescs(),
		requests: requests{failing: map[string]failure{}, standings: map[*meter]*standing{}}, pending: "the API server"}
}

// follows takes the index and the channels that close when a resource is in it.
func (m *Monitor) follows(ix *index, synced map[string]<-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index, m.synced, m.pending = ix, synced, ""
}

func (m *Monitor) elects(le *leaderelection.LeaderElector) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.elector = le
}

// begins records the engine of a new term.
func (m *Monitor) begins(e *engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.term, m.working, m.pending = e, false, ""
}

// works records that the term has begun to write.
func (m *Monitor) works() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.working, m.pending = true, ""
}

func (m *Monitor) ends() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.term, m.working, m.pending = nil, false, ""
}

func (m *Monitor) stopped() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
}

// waitsFor records what keeps the engine from working; err, if not nil, says why.
func (m *Monitor) waitsFor(what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending = what; err != nil {
		m.pending += ": " + strings.TrimPrefix(err.Error(), "engine: ")
	}
}

// Ready returns nil if the engine does its work, or, while another one leads, could do it at once. Otherwise
// the error says what is missing, one thing a line.
func (m *Monitor) Ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return errors.New("the engine has stopped")
	}
	var wrong []error
	if m.pending != "" {
		wrong = append(wrong, fmt.Errorf("waiting for %s", m.pending))
	}
	for _, resource := range slices.Sorted(maps.Keys(m.synced)) {
		select {
		case <-m.synced[resource]:
		default:
			wrong = append(wrong, fmt.Errorf("waiting for the first list of %s", resource))
		}
	}
	wrong = append(wrong, m.requests.problems()...)
	if len(m.missing) > 0 {
		wrong = append(wrong, fmt.Errorf("not permitted: %s", strings.Join(m.missing, ", ")))
	}
	if len(wrong) == 0 && m.term != nil && !m.working {
		wrong = append(wrong, errors.New("taking over from the last leader"))
	}
	return errors.Join(wrong...)
}

// The limits of health. A decision makes many requests, each of which may use its full timeout:
// only a decision that has had no answer for much longer is stuck.
const (
	renewTolerance = 10 * time.Second
	stuckAfter     = 20 * time.Minute
)

// Healthy returns nil unless only a restart can help: the lease has expired while this process
// believes it holds it, or a decision does not end. It takes the locks of the engine, so it does
// not return if one is never released.
func (m *Monitor) Healthy() error {
	m.mu.Lock()
	elector, term, ix := m.elector, m.term, m.index
	m.mu.Unlock()
	if ix != nil {
		ix.countSets()
	}
	if elector != nil {
		if err := elector.Check(renewTolerance); err != nil {
			return fmt.Errorf("the lease is not renewed: %w", err)
		}
	}
	if term == nil {
		return nil
	}
	term.apply.load()
	if busy := term.seats.longest(); busy > stuckAfter {
		return fmt.Errorf("a decision about a DaemonSet has made no progress for %s", busy.Round(time.Second))
	}
	return nil
}

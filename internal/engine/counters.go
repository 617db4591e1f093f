package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"everynode/internal/delivery"
)

// counters are the metrics that are counted when something happens: a few for each request and
// decision, none for an event.
type counters struct {
	waits, decisions prometheus.Histogram
	failures         prometheus.Counter
	writeTook        *prometheus.HistogramVec // verb
	writes           *prometheus.CounterVec   // verb, outcome
	creates, changes prometheus.Counter
	deletes          *prometheus.CounterVec   // reason
	answers          *prometheus.CounterVec   // verb, resource, code
	answerTook       *prometheus.HistogramVec // verb, resource
}

func newCounters() counters {
	// From the fraction of a millisecond that a decision takes to the seconds that a server in
	// trouble takes.
	times := prometheus.ExponentialBuckets(0.0001, 4, 10)
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, labels)
	}
	observe := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: metricPrefix + name, Help: help, Buckets: times}
	}
	return counters{
		waits: prometheus.NewHistogram(observe("queue_duration_seconds",
			"How long the oldest unhandled event of a DaemonSet waited for the decision about it.")),
		decisions: prometheus.NewHistogram(observe("sync_duration_seconds",
			"How long it took to decide on one DaemonSet, with the requests for its revisions and status.")),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + "sync_errors_total",
			Help: "Decisions that ended with an error and are retried."}),
		writeTook: prometheus.NewHistogramVec(observe("write_duration_seconds",
			"How long a create, delete or change of a pod took, with the reads that settle its outcome."), []string{"verb"}),
		writes:  count("writes_total", "Creates, deletes and changes of pods that have ended, by outcome.", "verb", "outcome"),
		creates: prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + "pods_created_total", Help: "Pods that were created."}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + "pods_changed_total", Help: "Pods that were updated in place."}),
		deletes: count("pods_deleted_total", "Pods that were deleted, by reason.", "reason"),
		answers: count("api_requests_total", "Requests to the API server, by HTTP status, or \"error\" when there was no answer.", "verb", "resource", "code"),
		answerTook: prometheus.NewHistogramVec(observe("api_request_duration_seconds",
			"How long the API server took to begin its answer; watches are left out."), []string{"verb", "resource"}),
	}
}

func (c *counters) list() []prometheus.Collector {
	return []prometheus.Collector{c.waits, c.decisions, c.failures, c.writeTook, c.writes, c.creates, c.changes, c.deletes, c.answers, c.answerTook}
}

// waited counts how long events have waited, if there were any.
func (c *counters) waited(since, now time.Time) {
	if !since.IsZero() {
		c.waits.Observe(now.Sub(since).Seconds())
	}
}

// decided counts a decision.
func (c *counters) decided(took time.Duration, err error) {
	c.decisions.Observe(took.Seconds())
	if err != nil {
		c.failures.Inc()
	}
}

// wrote counts a write to a pod that has ended.
func (c *counters) wrote(w *write, f delivery.Fate, took time.Duration) {
	verb := w.verb()
	c.writeTook.WithLabelValues(verb).Observe(took.Seconds())
	c.writes.WithLabelValues(verb, f.String()).Inc()
	switch {
	case f != delivery.OK:
	case w.create != nil:
		c.creates.Inc()
	case w.change != nil:
		c.changes.Inc()
	default:
		c.deletes.WithLabelValues(w.remove.Reason.String()).Inc()
	}
}

package compat

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"everynode/internal/engine"
)

// cautious runs our engine as `everynode controller` does: it refuses to work
// beside another controller. The result of Run goes to ended. works reports whether
// it leads. The engine reports ready before that, so that it can take over from
// another one.
func cautious(l *lab, after time.Duration) (works func() bool, ended <-chan error, stop func()) {
	m, result := engine.NewMonitor(), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	config := rest.CopyConfig(l.config)
	config.UserAgent = ours.name
	go func() {
		result <- engine.Run(ctx, engine.Config{Client: config, LeaderElect: true, LeaseNamespace: namespace, Alone: true, AloneAfter: after,
			Monitor: m, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		close(result)
	}()
	l.t.Cleanup(func() {
		cancel()
		<-result
	})
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(m)
	return func() bool { return l.gauge(metrics, "everynode_leader") == 1 }, result, cancel
}

// gauge returns the value of a metric that has no labels.
func (l *lab) gauge(from prometheus.Gatherer, name string) float64 {
	l.t.Helper()
	families, err := from.Gather()
	l.do(err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	l.t.Fatalf("the engine has no metric %s", name)
	return 0
}

// probeUID is the UID of the probe; "" if there is none.
func (l *lab) probeUID() string {
	l.t.Helper()
	probe, err := l.client.AppsV1().DaemonSets(namespace).Get(l.t.Context(), "everynode-controller-probe", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	l.do(err)
	return string(probe.UID)
}

// refuses waits for the end of an engine that must not work beside upstream.
func (l *lab) refuses(ended <-chan error) {
	l.t.Helper()
	select {
	case err := <-ended:
		var other *engine.OtherController
		if !errors.As(err, &other) || other.Name != upstream.name || !strings.Contains(err.Error(), "-daemonset-controller") {
			l.t.Fatalf("Run: %v", err)
		}
	case <-time.After(patience):
		l.t.Fatal("the engine works beside another controller")
	}
	if uid := l.probeUID(); uid != "" {
		l.t.Error("the probe is left")
	}
}

// TestRefusesBesideUpstream: while Kubernetes' controller is on, ours does not
// start. While it is off, ours works. When it is switched on again, ours stops.
// Meanwhile no pod is created or deleted twice.
func TestRefusesBesideUpstream(t *testing.T) {
	l := newLab(t)
	r := l.begin(upstream, agent(), "n1", "n2", "n3")
	before := l.uids()
	_, ended, _ := cautious(l, 20*time.Second)
	l.refuses(ended)
	r.stop()

	began := time.Now()
	works, ended, stop := cautious(l, 3*time.Second)
	l.until("ours works", works)
	probe := l.probeUID()
	if probe == "" {
		t.Error("there is no probe while ours works")
	}
	l.addNodes("n4")
	l.until("the fourth pod is there", func() bool { return l.everywhere("agent:1") })
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}

	l.until("the probe has been there long enough", func() bool { return time.Since(began) > 10*time.Second })
	works, ended, _ = cautious(l, 10*time.Second) // so it need not wait
	l.until("the next one works", works)
	if now := l.probeUID(); now != probe {
		t.Errorf("the probe is %q, was %q", now, probe)
	}
	l.start(upstream)
	l.refuses(ended)
	l.addNodes("n5")
	l.until("upstream goes on", func() bool { return l.everywhere("agent:1") })
	after := l.uids()
	for uid, pod := range before {
		if after[uid] != pod {
			t.Errorf("the pod %s is gone, or was replaced", pod)
		}
	}
}

package engine

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"everynode/internal/delivery"
	"everynode/internal/view"
)

// storeError is what the API server answers if its store fails.
func storeError(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: text}}
}

// While every fifth create fails because of the API server, no more nodes are granted the new revision until a minute
// without failures has passed; if a webhook fails, the release goes on.
func TestReleaseWaitsForAWellAPIServer(t *testing.T) {
	for text, wants := range map[string]bool{"etcdserver: leader changed": true, `failed calling webhook "x": context deadline exceeded`: false} {
		released(t, 100, `{"waves": [{"name": "all", "nodes": "100%", "soak": "1m"}]}`, "", func(c *cluster) {
			var creates atomic.Int32
			c.intercept(func(r request) (error, bool) {
				if r.is("create", "pods") && creates.Add(1)%5 == 0 {
					if wants {
						return storeError(text), false
					}
					return apierrors.NewInternalError(errors.New(text)), false
				}
				return nil, false
			})
			c.editSet(func(ds *appsv1.DaemonSet) {
				image("agent:2")(ds)
				many := intstr.FromInt32(20)
				ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &many}
			})
			unwell, exposed := 0, 0
			var grew time.Time
			for range 36 {
				c.run(5 * time.Second)
				s := c.rollout().Status
				if s.Reason == "APIUnwell" {
					unwell++
				}
				if wants && s.Nodes.Exposed > exposed && time.Since(grew) < time.Minute {
					t.Errorf("%d nodes are exposed, and %d less than a minute ago, when it was found unwell", s.Nodes.Exposed, exposed)
				}
				if s.Nodes.Exposed > exposed {
					exposed, grew = s.Nodes.Exposed, time.Now()
				}
			}
			if got := unwell > 0; got != wants {
				t.Errorf("%s: it was found unwell %d times: %s", text, unwell, c.rollout().Status.Message)
			}
			if got := len(c.events("ReleaseRolling")) > 0; wants && !got {
				t.Error("there is no event")
			}
			c.intercept(nil)
			c.run(15 * time.Minute)
			c.covered(100, "agent:2")
		})
	}
}

// A revision that only makes the API server slow is noticed while its wave soaks. Nothing is asked while no release proceeds.
func TestSlowAPIServerIsNoticedInASoak(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var slow atomic.Bool
		var asked atomic.Int32
		s := &slowServer{c: c, resets: true, takes: func(r request) time.Duration {
			if !r.is("get", "daemonsets") {
				return 0
			}
			asked.Add(1)
			if slow.Load() {
				return 2500 * time.Millisecond
			}
			return 0
		}}
		c.installKinds()
		c.addKind(view.PolicyResource, policy(`{"waves": [{"name": "first", "nodes": 1, "soak": "2m"}, {"name": "all", "nodes": "100%"}]}`))
		c.addNodes(5)
		c.addSet(follows)
		c.start(s.use)
		quiet := func(when string) {
			t.Helper()
			asked.Store(0)
			c.run(time.Minute)
			if n := asked.Load(); n > 0 {
				t.Errorf("%s the DaemonSet is read %d times a minute", when, n)
			}
		}
		c.run(time.Minute)
		quiet("before a release")
		c.editSet(image("agent:2"))
		c.run(30 * time.Second)
		slow.Store(true)
		c.run(5 * time.Minute)
		c.wantRelease("with a slow server", "Rolling APIUnwell first 1", map[string]int{"agent:2": 1, "agent:1": 4})
		slow.Store(false)
		c.run(5 * time.Minute)
		c.covered(5, "agent:2")
		quiet("after a release")
		c.editSet(image("agent:3"))
		c.run(30 * time.Second)
		c.ask(`{"paused": true}`)
		c.run(time.Second)
		quiet("while a release is paused")
	})
}

// No webhook makes the API server count as unwell, whatever it answers and however long it takes; refusals do not either.
func TestWhatCountsAgainstTheAPIServer(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for name, c := range map[string]struct {
		err         error
		takes       time.Duration
		read, write bool // count against it
	}{
		"well":                                 {nil, 0, false, false},
		"slow":                                 {nil, 3 * time.Second, true, false},
		"no answer":                            {errors.New("connection refused"), 0, true, true},
		"no answer in time":                    {&slowRequest{delivery.PromptTimeout, context.DeadlineExceeded}, delivery.PromptTimeout, true, false},
		"a time-out of its own":                {apierrors.NewTimeoutError("request did not complete", 0), 0, true, false},
		"500":                                  {storeError("etcdserver: no leader"), 0, true, true},
		"a webhook whose patch does not apply": {apierrors.NewInternalError(errors.New("add operation does not apply: doc is missing path: /metadata/annotations/x: missing value")), 0, true, false},
		"429":                                  {apierrors.NewTooManyRequests("slow down", 1), 0, true, true},
		"a webhook with 429":                   {apierrors.NewTooManyRequests(`admission webhook "x" denied the request`, 1), 0, false, false},
		"a webhook that is dead":               {apierrors.NewInternalError(errors.New(`failed calling webhook "x"`)), 0, false, false},
		"403":                                  {apierrors.NewForbidden(pods, "a", errors.New("no")), 0, false, false},
		"404":                                  {apierrors.NewNotFound(pods, "a"), 0, false, false},
		"the caller has given up":              {context.Canceled, 0, true, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var reads, writes, ended health
			for range 30 {
				began := time.Now()
				reads.read(ctx, c.err, began.Add(-c.takes))
				writes.write(ctx, c.err, began.Add(-c.takes))
			}
			if got := reads.unwell(time.Now()); got != c.read {
				t.Errorf("%s: reads: %v", name, got)
			}
			if got := writes.unwell(time.Now()); got != c.write {
				t.Errorf("%s: writes: %v", name, got)
			}
			cancel()
			for range 30 {
				ended.read(ctx, c.err, time.Now())
				ended.write(ctx, c.err, time.Now())
			}
			if ended.unwell(time.Now()) {
				t.Errorf("%s: what the engine has ended itself counts", name)
			}
		})
	}
}

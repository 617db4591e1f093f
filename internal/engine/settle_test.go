package engine

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Writes whose outcome cannot be learned keep their nodes uncertain, and hold up
// nothing else.
func TestUnsettledWritesHoldNobodyUp(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(60)
		c.addSet()
		var creates atomic.Int32
		var blind atomic.Bool
		blind.Store(true)
		c.intercept(func(r request) (error, bool) {
			switch {
			case r.is("create", "pods") && creates.Add(1) <= 40:
				return apierrors.NewInternalError(fmt.Errorf("failed calling webhook")), false
			case r.is("get", "pods") && blind.Load():
				return apierrors.NewInternalError(fmt.Errorf("no quorum")), false
			}
			return nil, false
		})
		c.start()
		c.run(5 * time.Minute)
		if n := len(c.pods()); n != 20 {
			t.Errorf("%d of 60 nodes have a pod; nobody knows of 40", n)
		}
		if n := creates.Load(); n != 60 {
			t.Errorf("%d creates: one for each node, and no other until it is known what became of it", n)
		}
		blind.Store(false)
		c.run(3 * time.Minute)
		c.covered(60, "agent:1")
	})
}

// An engine that may not get pods, but may list them, learns the same.
func TestOutcomeIsLearnedByListing(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.addNodes(60)
		c.addSet()
		c.deny("get pods")
		var creates atomic.Int32
		c.intercept(func(r request) (error, bool) {
			if r.is("create", "pods") {
				switch n := creates.Add(1); {
				case n <= 20:
					return apierrors.NewInternalError(fmt.Errorf("failed calling webhook")), false
				case n <= 40:
					return nil, true
				}
			}
			return nil, false
		})
		c.start()
		c.run(5 * time.Minute)
		c.covered(60, "agent:1")
		if n := len(c.creates); n != 60 {
			t.Errorf("%d pods were made", n)
		}
	})
}

package compat

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
)

// kinds returns the key prefixes of the observed objects in the store.
func kinds() []string {
	return []string{"/registry/pods/" + namespace + "/", "/registry/daemonsets/" + namespace + "/", "/registry/minions/"}
}

// truth follows the store below the API server. A watch of the API is in order
// only for one resource; only the store has the order across resources.
type truth struct {
	t     *testing.T
	last  map[string]metav1.Object // by key
	tell  func(change)
	store *embed.Etcd
}

// follow passes on every change from now on, until the test ends.
func (x *truth) follow() {
	x.t.Helper()
	x.last = map[string]metav1.Object{}
	stream := x.store.Server.KV().NewWatchStream()
	if _, err := stream.Watch(x.t.Context(), 0, []byte("/registry/"), []byte("/registry0"), x.store.Server.KV().Rev()+1); err != nil {
		x.t.Fatal("watching the store: ", err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for batch := range stream.Chan() {
			for _, e := range batch.Events {
				x.take(string(e.Kv.Key), e.Kv.Value, e.Kv.ModRevision)
			}
		}
	})
	x.t.Cleanup(func() {
		stream.Close()
		all.Wait()
	})
}

// take decodes one change. A deletion has no value.
func (x *truth) take(key string, value []byte, revision int64) {
	observed := false
	for _, prefix := range kinds() {
		observed = observed || strings.HasPrefix(key, prefix)
	}
	switch {
	case !observed:
		x.tell(change{revision: revision})
	case len(value) == 0:
		if obj := x.last[key]; obj != nil {
			delete(x.last, key)
			x.tell(change{revision, obj, true})
		}
	default:
		obj, err := decode(value)
		if err != nil {
			x.t.Errorf("what is stored as %s: %v", key, err)
			return
		}
		x.last[key] = obj
		x.tell(change{revision, obj, false})
	}
}

func decode(value []byte) (metav1.Object, error) {
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(value, nil, nil)
	if err != nil {
		return nil, err
	}
	if meta, ok := obj.(metav1.Object); ok {
		return meta, nil
	}
	return nil, fmt.Errorf("a %T has no metadata", obj)
}

// poll waits for a condition.
func poll(ctx context.Context, atMost time.Duration, cond func() bool) error {
	return wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, atMost, true, func(context.Context) (bool, error) { return cond(), nil })
}

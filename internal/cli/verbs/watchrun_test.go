package verbs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/cli/console"
	"everynode/internal/fleetmap"
	"everynode/internal/lookout"
)

// While a resource cannot be read, one line says which, since when and why, and --give-up counts.
func TestWatchNothingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _, _ := cluster(t)
		client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewInternalError(errors.New("no space"))
		})
		var out bytes.Buffer
		cmd := watchCommand{Console: &console.Console{Out: &out, Err: io.Discard, Program: console.Everynode}, cluster: access{&givenCluster{}}}
		flags := &watchFlags{namespace: "apps", untilDone: true, giveUp: 10 * time.Minute}
		began := time.Now()
		err := cmd.watchSet(t.Context(), client, rolloutKinds{}, flags, "agent", nil)
		const why = ` since \d\d:\d\d:\d\d, trying again: pods: Internal error occurred: no space`
		if err == nil || !regexp.MustCompile(`^nothing could be seen in 10m0s \(--give-up\): not read`+why+"$").MatchString(err.Error()) {
			t.Error(err)
		}
		if took := time.Since(began); took < flags.giveUp || took > flags.giveUp+time.Second {
			t.Errorf("it gave up after %s", took)
		}
		if !regexp.MustCompile(`^\d\d:\d\d:\d\d not read yet` + why + "\n$").MatchString(out.String()) {
			t.Errorf("%q", &out)
		}
		flags.giveUp = 0
		ctx, interrupt := context.WithTimeout(t.Context(), time.Hour)
		defer interrupt()
		if err := cmd.watchSet(ctx, client, rolloutKinds{}, flags, "agent", nil); err == nil || !strings.HasPrefix(err.Error(), "interrupted before anything was seen: not read since ") {
			t.Error(err)
		}
	})
}

// The same where there is just no answer.
func TestWatchNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _, _ := cluster(t)
		l, err := lookout.New(t.Context(), client, lookout.Releases{}, "apps", "agent", nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := watcher{lookout: l, canvas: newLines(&out), untilDone: true, giveUp: time.Minute}
		began := time.Now()
		for _, after := range []time.Duration{0, wordAfter, time.Minute} {
			wake, err := w.unread(began.Add(after))
			want := map[time.Duration]time.Duration{0: wordAfter, wordAfter: time.Minute}[after]
			if !wake.Equal(began.Add(want)) && err == nil || (err != nil) != (after == time.Minute) {
				t.Errorf("after %s: it looks again after %s, %v", after, wake.Sub(began), err)
			}
			if wrote := out.Len() > 0; wrote != (after > 0) {
				t.Errorf("after %s: %q", after, &out)
			}
		}
		if got := out.String(); !strings.HasSuffix(got, ", no answer yet: controllerrevisions, daemonsets, nodes, pods\n") || strings.Count(got, "\n") != 1 {
			t.Errorf("%q", got)
		}
	})
}

// A change that comes too soon for a line of its own has one later, even if nothing changes by then.
func TestLinesSayTheLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLines(&out)
		began := time.Now()
		for _, phase := range []string{"first", "second", "third"} {
			if err := l.draw(&fleetmap.Model{Phase: phase}); err != nil {
				t.Fatal(err)
			}
		}
		<-l.resized()
		if err := errors.Join(l.draw(&fleetmap.Model{Phase: "third"}), l.close()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != lineEvery || !strings.HasSuffix(out.String(), " third, 0 nodes\n") || strings.Count(out.String(), "\n") != 2 {
			t.Errorf("after %s: %q", took, &out)
		}
	})
}

package plan

import (
	"strings"
	"testing"
	"time"
)

// Every reason has a unique name and a sentence.
func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reason(len(reasonText)) {
		name, sentence := r.String(), r.Sentence()
		if name == "" || seen[name] || strings.ContainsAny(name, " -") {
			t.Errorf("reason %d is called %q", r, name)
		}
		if !strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "\n") {
			t.Errorf("%s: %q is not a sentence", name, sentence)
		}
		seen[name] = true
	}
	if got := PodRefused + 1; int(got) != len(reasonText) {
		t.Errorf("the table has %d reasons, want %d", len(reasonText), got)
	}
	if got := Reason(250); got.String() != "Reason(250)" || got.Sentence() != "Unknown reason 250." {
		t.Errorf("unknown reason: %q, %q", got, got.Sentence())
	}
}

func TestAmountRoundsUp(t *testing.T) {
	for _, c := range []struct {
		a           Amount
		total, want int
	}{
		{Amount{Value: 3}, 100, 3},
		{Amount{Value: 10, Percent: true}, 0, 0},
		{Amount{Value: 10, Percent: true}, 1, 1},
		{Amount{Value: 10, Percent: true}, 10, 1},
		{Amount{Value: 10, Percent: true}, 11, 2},
		{Amount{Value: 100, Percent: true}, 7, 7},
		{Amount{Value: 0, Percent: true}, 7, 0},
	} {
		if got := c.a.Of(c.total); got != c.want {
			t.Errorf("%+v of %d is %d, want %d", c.a, c.total, got, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	now := scriptNow()
	var b Backoff
	if !b.Expired(now) {
		t.Error("the zero back-off holds something")
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
		b = b.After(Delete{UID: "x", Reason: PodRefused}, now)
		if b.Delay != want*time.Second || b.Last != now || b.Pod != "x" || !b.Refused {
			t.Fatalf("back-off is %+v, want %d s", b, want)
		}
		now = now.Add(b.Delay)
	}
	if later := b.Last.Add(30 * time.Minute); b.Expired(later) || NextBackoff(b, later).Delay != 15*time.Minute {
		t.Error("the back-off is forgotten too early")
	}
	if later := b.Last.Add(30*time.Minute + 1); !b.Expired(later) || NextBackoff(b, later) != (Backoff{Last: later, Delay: time.Second}) {
		t.Error("the back-off is not forgotten")
	}
	if b = b.After(Delete{UID: "y", Reason: PodFailed}, now); b.Refused {
		t.Error("a pod that merely failed counts as refused")
	}
}

// The back-off remembers since when pods of one revision fail.
func TestBackoffRemembersTheFirst(t *testing.T) {
	now := scriptNow()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	one := Backoff{}.After(Delete{UID: "x", Hash: "a", Created: ago(time.Hour)}, ago(time.Minute))
	if one.First != ago(time.Hour) || one.Created != one.First || one.Hash != "a" {
		t.Fatalf("after one pod: %+v", one)
	}
	two := one.After(Delete{UID: "y", Hash: "a", Created: ago(50 * time.Second)}, ago(30*time.Second))
	if two.First != ago(time.Hour) || two.Created != ago(50*time.Second) {
		t.Errorf("after two: %+v", two)
	}
	if b := two.After(Delete{UID: "z", Hash: "a", Created: ago(2 * time.Hour)}, now); b.First != ago(2*time.Hour) {
		t.Errorf("after an older one: %+v", b)
	}
	if b := two.After(Delete{UID: "z", Hash: "b", Created: ago(20 * time.Second)}, now); b.First != ago(20*time.Second) || b.Hash != "b" {
		t.Errorf("after one of another revision: %+v", b)
	}
	later := now.Add(time.Hour)
	if b := two.After(Delete{UID: "z", Hash: "a", Created: now}, later); b.First != now {
		t.Errorf("after all was forgotten: %+v", b)
	}
}

// Two pods of a node may go at once, and the older one last. The older one does not show how the newer one ended, only that the
// node's trouble is not over.
func TestBackoffIsOfTheNewestPod(t *testing.T) {
	now := scriptNow()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	refused := Backoff{}.After(Delete{UID: "new", Hash: "b", Reason: PodRefused, Created: ago(time.Minute)}, ago(time.Second))
	both := refused.After(Delete{UID: "old", Hash: "a", Reason: PodFailed, Created: ago(time.Hour)}, now)
	want := refused
	want.Last, want.Delay = now, 2*refused.Delay
	if both != want || !both.handed(nil) {
		t.Errorf("after the older one:\n%+v, want\n%+v", both, want)
	}
	if b := refused.After(Delete{UID: "old", Hash: "b", Reason: PodFailed, Created: ago(time.Hour)}, now); b.Pod != "new" || !b.Refused || b.First != ago(time.Hour) {
		t.Errorf("after an older one of the same revision: %+v", b)
	}
}

// A pod that is current by its generation is remembered under the current revision, whatever its label says; an outdated one
// under its own.
func TestDeletesNameTheRevision(t *testing.T) {
	made := scriptNow().Add(-time.Hour)
	in := &Input{Now: scriptNow(), Set: Spec{Hash: "b", Generation: 7}, Nodes: []Node{{Name: "n1", Ready: true}, {Name: "n2", Ready: true}}, Pods: []Pod{
		{Name: "p1", Node: "n1", Bound: true, Phase: Failed, Hash: "x", Generation: 7, Created: made},
		{Name: "p2", Node: "n2", Bound: true, Phase: Failed, Hash: "a", Generation: 6, Created: made},
	}}
	var out Plan
	Make(in, &out)
	if len(out.Deletes) != 2 || out.Deletes[0].Hash != "b" || out.Deletes[1].Hash != "a" || out.Deletes[0].Created != made {
		t.Errorf("deletes are %+v", out.Deletes)
	}
}

func TestBudgetIsScaled(t *testing.T) {
	for _, c := range []struct {
		set                 Spec
		desired, down, more int
	}{
		{Spec{}, 5, 1, 0},
		{Spec{MaxUnavailable: Amount{0, true}}, 5, 1, 0},
		{Spec{MaxUnavailable: Amount{50, true}}, 5, 3, 0},
		{Spec{MaxSurge: Amount{1, true}}, 5, 0, 1},
		{Spec{MaxSurge: Amount{50, true}}, 0, 0, 1},
		{Spec{Strategy: OnDelete, MaxUnavailable: Amount{Value: 3}}, 5, 0, 0},
	} {
		if down, more := c.set.Budget(c.desired); down != c.down || more != c.more {
			t.Errorf("%+v of %d: %d and %d, want %d and %d", c.set, c.desired, down, more, c.down, c.more)
		}
	}
}

// A pod without a revision does not count as current while the current revision is unknown, and a term that asks for nothing is
// not a wildcard.
func TestNothingMatchesNothing(t *testing.T) {
	in := &Input{Now: scriptNow(), Nodes: []Node{{Name: "n"}}, Pods: []Pod{{Name: "p", Node: "n", Bound: true, Ready: true}}}
	var out Plan
	Make(in, &out)
	if out.Status.Updated != 0 {
		t.Errorf("status is %+v", out.Status)
	}
	for _, terms := range [][]Term{{}, {{}}, {{}, {}}} {
		if got := (Placement{Terms: terms}).Admits(&in.Nodes[0]); got.Keep || got.Reason != AffinityNotMatched {
			t.Errorf("%v: %+v", terms, got)
		}
	}
}

// Time that a pod did not live does not count as its life: the next pod counts as one more that did not last, however late it is
// created.
func TestPodsThatEndSoonAreNotForgottenBySlowWrites(t *testing.T) {
	r, now := Remakes{}, scriptNow()
	for range 5 {
		r, now = r.Next(now), now.Add(time.Second)
		if r = r.Noticed([]*Pod{{Phase: Running}}, now); !r.Gone.IsZero() {
			t.Fatal("a pod that lives is gone")
		}
		now = now.Add(time.Second)
		r = r.Noticed([]*Pod{{Phase: Running, Deleted: now, Disruptor: TaintManager}}, now)
		now = now.Add(2 * time.Minute)
		if r = r.Noticed(nil, now); r.Expired(now) || r.By != TaintManager {
			t.Fatalf("two minutes after a pod of two seconds: %+v", r)
		}
	}
	if r.Again != 4 {
		t.Errorf("%d pods did not last, want 4", r.Again)
	}
	if later := r.Gone.Add(2 * maxPause); r.Expired(later) || !r.Expired(later.Add(1)) {
		t.Error("it is remembered for longer than any pause, or for less")
	}
	if lived := (Remakes{Last: now}).Noticed(nil, now.Add(lasting+1)); !lived.Expired(now.Add(lasting + 2)) {
		t.Error("a pod that has lasted counts as one that has not")
	}
}

// A node that has missed a release keeps its pod until it is back, whether the pod serves or not.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		what          string
		node          Node
		podReady      bool
		patient       bool
		surge, assist bool
		want          Reason
	}{
		{"down", Node{}, true, true, false, false, AwaitsWave},
		{"down, and so is the pod", Node{}, false, true, false, false, AwaitsWave},
		{"looked after", Node{Ready: true, Leaving: true}, true, true, false, false, AwaitsWave},
		{"down, with surge", Node{}, true, true, true, false, AwaitsWave},
		{"down, beside another controller", Node{}, true, true, false, true, AwaitsWave},
		{"back", Node{Ready: true}, true, true, false, false, Outdated},
		{"without a policy", Node{}, true, false, false, false, Outdated},
	} {
		in := &Input{Now: scriptNow(), Set: Spec{Hash: "b", MaxUnavailable: Amount{Value: 1}, Patient: c.patient, Assists: c.assist}}
		if c.surge {
			in.Set.MaxSurge = Amount{Value: 1}
		}
		c.node.Name, c.node.NeverReady = "n", true
		in.Nodes = []Node{c.node}
		in.Pods = []Pod{{Name: "p", UID: "u", Node: "n", Hash: "a", Bound: true, Phase: Running, Ready: c.podReady}}
		var out Plan
		Make(in, &out)
		if got := out.Verdicts[0].Reason; got != c.want || (len(out.Deletes)+len(out.Creates) > 0) != (c.want == Outdated) {
			t.Errorf("%s: %s, %d deletes, %d creates, want %s", c.what, got, len(out.Deletes), len(out.Creates), c.want)
		}
	}
}

package why

import (
	"errors"
	"strings"
	"testing"
)

// What is printed, and whether the engine may go: a DaemonSet that nobody would update is reported, and does not prevent
// it.
func TestHandoverIsTold(t *testing.T) {
	left := Handover{Namespace: "a", Name: "left", Phase: "Idle", NobodyUpdates: true}
	applied := Handover{Namespace: "a", Name: "applied", Phase: "Waiting", Updates: 5, AtATime: 2, NobodyUpdates: true, WhenApplied: true}
	rolled := Handover{Namespace: "a", Name: "rolled", Phase: "Rolling", Updates: 3, AtATime: 1}
	rested := Handover{Namespace: "a", Name: "rested", Phase: "Idle", Updates: 3, AtATime: 1, Because: "nodes wait"}
	unmet := Handover{Namespace: "a", Name: "unmet", Updates: 3, AtATime: 1}
	for _, c := range []struct {
		all  []Handover
		err  error
		says []string
		not  string
	}{
		{nil, nil, []string{"No pod would move: no release is under way"}, "Nobody"},
		{[]Handover{left}, nil, []string{"No pod would move.", "Nobody would update these any more, as they are OnDelete: a/left. "}, "DAEMONSET"},
		{[]Handover{left, applied}, ErrWouldUpdate, []string{"a/applied   Waiting   5              2", "OnDelete: a/left, a/applied. "}, "No pod"},
		{[]Handover{rolled}, ErrWouldMove, []string{"a/rolled    Rolling   3              1"}, "Nobody"},
		{[]Handover{rested}, ErrWouldMove, []string{"a/rested    Idle      3              1", "\na/rested: nodes wait.\n"}, "No pod"},
		{[]Handover{unmet}, ErrWouldMove, []string{"a/unmet     -         3              1"}, "No pod"},
		{[]Handover{applied, rolled}, ErrWouldMove, []string{"a/applied", "a/rolled"}, "No pod"},
	} {
		var b strings.Builder
		if err := PrintHandovers(&b, c.all); err != nil {
			t.Fatal(err)
		}
		for _, says := range c.says {
			if !strings.Contains(b.String(), says) {
				t.Errorf("%+v: nothing says %q:\n%s", c.all, says, b.String())
			}
		}
		if strings.Contains(b.String(), c.not) {
			t.Errorf("%+v: it says %q:\n%s", c.all, c.not, b.String())
		}
		if err := NotYet(c.all); !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, want %v", c.all, err, c.err)
		}
	}
}

package rollout

import "testing"

// Of what waits, only that no node is well needs a person, or nodes that come up.
func TestStands(t *testing.T) {
	for s, want := range map[State]bool{
		{Phase: Halted, Reason: TooManyFailed}: true,
		{Phase: Held, Reason: PolicyGone}:      true,
		{Phase: Waiting, Reason: NoneWell}:     true,
		{Phase: Waiting, Reason: NotApproved}:  false,
		{Phase: Rolling, Reason: NoneWell}:     false,
		{Phase: Idle}:                          false,
	} {
		if s.Stands() != want {
			t.Errorf("%s (%s): %v, want %v", s.Phase, s.Reason, s.Stands(), want)
		}
	}
}

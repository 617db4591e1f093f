package cli

import (
	"slices"
	"testing"
	"time"

	"everynode/internal/controlplane/admission"
)

// A thief can join under another name with a token that is still valid, is for any name, and was not used as often as it may be.
func TestOpenTokens(t *testing.T) {
	now := time.Now()
	got := openTokens([]admission.Token{
		{ID: "forever"},
		{ID: "valid", Expires: now.Add(time.Hour), Uses: 2, UsedBy: []string{"k/a"}},
		{ID: "over", Expires: now},
		{ID: "used", Expires: now.Add(time.Hour), Uses: 1, UsedBy: []string{"k/a"}},
		{ID: "named", Nodes: []string{"rack7-3"}},
	}, now)
	if want := []string{"forever", "valid"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

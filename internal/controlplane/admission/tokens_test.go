package admission

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/client-go/kubernetes/fake"
	tokenutil "k8s.io/cluster-bootstrap/token/util"
)

func TestTokens(t *testing.T) {
	ctx, client := t.Context(), fake.NewSimpleClientset()
	forever, err := CreateToken(ctx, client, TokenSpec{Description: "for the rack"})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	hour, err := CreateToken(ctx, client, TokenSpec{TTL: time.Hour, Nodes: []string{"a", "b.example"}, Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !tokenutil.IsValidBootstrapToken(hour.String()) {
		t.Errorf("%q is not a bootstrap token", hour.String())
	}
	if left := hour.Expires.Sub(begin); left < time.Hour || left > time.Hour+2*time.Second {
		t.Errorf("a token for an hour lives for %s", left)
	}
	list, err := ListTokens(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Token{hour, forever}, list, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if err := DeleteToken(ctx, client, hour.ID); err != nil {
		t.Error(err)
	}
	if err := DeleteToken(ctx, client, forever.String()); err != nil {
		t.Error(err)
	}
	if list, err = ListTokens(ctx, client); err != nil || len(list) != 0 {
		t.Errorf("%v, %v are left", list, err)
	}
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want one that says %q", err, text)
	}
}

func TestTokensRefuse(t *testing.T) {
	ctx, client := t.Context(), fake.NewSimpleClientset()
	_, err := CreateToken(ctx, client, TokenSpec{TTL: -time.Hour})
	wantError(t, err, "positive")
	_, err = CreateToken(ctx, client, TokenSpec{Nodes: []string{"No Name"}})
	wantError(t, err, "not the name of a node")
	wantError(t, DeleteToken(ctx, client, "../x"), "not a token id")
	wantError(t, DeleteToken(ctx, client, "abcdef"), "there is no token abcdef")
}

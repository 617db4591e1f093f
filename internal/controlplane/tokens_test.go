package controlplane

import (
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"
	tokenutil "k8s.io/cluster-bootstrap/token/util"
)

func TestTokens(t *testing.T) {
	ctx, client := t.Context(), fake.NewSimpleClientset()
	forever, err := CreateToken(ctx, client, 0, "for the rack")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	hour, err := CreateToken(ctx, client, time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	if !tokenutil.IsValidBootstrapToken(hour.String()) {
		t.Errorf("%q is no bootstrap token", hour.String())
	}
	if left := hour.Expires.Sub(begin); left < time.Hour || left > time.Hour+2*time.Second {
		t.Errorf("a token for an hour lives for %s", left)
	}
	list, err := ListTokens(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0] != hour || list[1] != forever {
		t.Errorf("listed %v, want %v and then %v", list, hour, forever)
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

func TestTokensRefuse(t *testing.T) {
	ctx, client := t.Context(), fake.NewSimpleClientset()
	_, err := CreateToken(ctx, client, -time.Hour, "")
	wantError(t, err, "positive")
	wantError(t, DeleteToken(ctx, client, "../x"), "no token id")
	wantError(t, DeleteToken(ctx, client, "abcdef"), "there is no token abcdef")
}

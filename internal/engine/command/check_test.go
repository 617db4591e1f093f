package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// A controller works if it renews the lease, whatever its clock shows.
func TestLeads(t *testing.T) {
	lease := func(holder string, renewed time.Time) *coordinationv1.Lease {
		at := metav1.NewMicroTime(renewed)
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: leaseName},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &at}}
	}
	long := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what  string
		looks []any // what each look finds; the last one repeats
		want  string
	}{
		{"one that renews it", []any{lease("a", long), lease("a", long.Add(time.Second))}, "a works."},
		{"one that takes it over", []any{lease("", long), lease("a", long.Add(time.Second)), lease("a", long.Add(3*time.Second))}, "a works."},
		{"after an error", []any{errors.New("no"), lease("a", long), lease("a", long.Add(time.Second))}, "a works."},
		{"one that is gone", []any{lease("a", long)}, "a holds it but does not renew it"},
		{"one that has given it up", []any{lease("a", long), lease("", long.Add(time.Second))}, "nobody holds it"},
		{"none", []any{nil}, "nobody has ever held it"},
		{"an API server that fails", []any{errors.New("not today")}, "not today"},
	} {
		client, looks := fake.NewClientset(), 0
		client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			found := c.looks[min(looks, len(c.looks)-1)]
			looks++
			switch found := found.(type) {
			case error:
				return true, nil, found
			case *coordinationv1.Lease:
				return true, found, nil
			}
			return false, nil, nil // there is no lease
		})
		var out bytes.Buffer
		var err error
		synctest.Test(t, func(t *testing.T) {
			err = leads(t.Context(), client.CoordinationV1().Leases("kube-system"), &out, 200*time.Millisecond, time.Millisecond)
		})
		works := strings.HasSuffix(c.want, "works.")
		if got := out.String(); works && (err != nil || !strings.Contains(got, c.want)) || !works && (err == nil || !strings.Contains(err.Error(), c.want) || got != "") {
			t.Errorf("%s: %q, %v, want %q", c.what, got, err, c.want)
		}
	}
}

// An error that is only due to the end of the time hides nothing that was seen before.
func TestLeadsSaysWhatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, began, none := fake.NewClientset(), time.Now(), ""
		client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			if time.Since(began) > 2*time.Second {
				return true, nil, errors.New("rate: Wait(n=1) would exceed context deadline")
			}
			return true, &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &none}}, nil
		})
		err := leads(t.Context(), client.CoordinationV1().Leases("kube-system"), &bytes.Buffer{}, 3500*time.Millisecond, time.Second)
		if err == nil || !strings.Contains(err.Error(), "nobody holds it") {
			t.Error(err)
		}
	})
}

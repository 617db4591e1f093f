package controlplane

import (
	"encoding/base64"
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"everynode/internal/addons"
)

// A certificate stays as long as it is good, and is then replaced. The Secret and what is
// returned always agree.
func TestEnsureServed(t *testing.T) {
	client, now := fake.NewClientset(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ensure := func(at time.Time) string {
		t.Helper()
		said, err := ensureServed(t.Context(), client, addons.Addon{Name: "site", Serves: "web"}, at)
		if err != nil {
			t.Fatal(err)
		}
		held, err := client.CoreV1().Secrets("kube-system").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil || base64.StdEncoding.EncodeToString(held.Data[corev1.TLSCertKey]) != said || !servedGood(held.Data, "web.kube-system.svc", at) {
			t.Fatalf("the Secret has %s, %v; returned was %s", held.Data[corev1.TLSCertKey], err, said)
		}
		if held.Labels[addons.NameKey] != "site" {
			t.Errorf("the Secret is not known as the add-on's, and would stay when that is deleted: %v", held.Labels)
		}
		return said
	}
	first := ensure(now)
	if ensure(now.Add(servedLife/2)) != first {
		t.Error("a certificate that is good for years is replaced")
	}
	if ensure(now.Add(servedLife-time.Hour)) == first {
		t.Error("a certificate that is about to end is kept")
	}
}

func TestServedGood(t *testing.T) {
	const host = "web.kube-system.svc"
	now := time.Now()
	good, err := newServed(host, now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newServed(host, now)
	if err != nil {
		t.Fatal(err)
	}
	if !servedGood(good, host, now) || servedGood(good, "other.kube-system.svc", now) || servedGood(nil, host, now) || servedGood(good, host, now.Add(-time.Hour)) {
		t.Error("the name or the time does not count")
	}
	mixed := maps.Clone(good)
	mixed[corev1.TLSPrivateKeyKey] = other[corev1.TLSPrivateKeyKey]
	if servedGood(mixed, host, now) {
		t.Error("a certificate with the key of another is good")
	}
}

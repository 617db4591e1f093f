package engine

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// No namespace can crowd out the metrics of others, whatever its name and however many
// DaemonSets it has.
func TestWhichSetsHaveMetrics(t *testing.T) {
	var keys []types.NamespacedName
	key := func(namespace, name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	for i := range 2 * maxListed {
		keys = append(keys, key("aaa", fmt.Sprintf("ds-%04d", i)))
	}
	mine := []types.NamespacedName{key("kube-system", "proxy"), key("kube-system", "net"), key("zzz", "agent"), key("zzz", "other"), key("kube-zzz", "claims-to-be-system")}
	keys = append(keys, mine...)
	released := func(k types.NamespacedName) bool { return k == key("aaa", "ds-0999") || k == key("zzz", "other") }
	order := listed(keys, released)
	for _, k := range mine {
		if i := slices.Index(order, k); i < 0 || i >= 10 {
			t.Errorf("%s has place %d", k, i)
		}
	}
	if order[0] != mine[1] || order[1] != mine[0] {
		t.Errorf("first come %v", order[:2])
	}
	if first := order[2:4]; !slices.Equal(first, []types.NamespacedName{key("aaa", "ds-0999"), key("zzz", "other")}) {
		t.Errorf("then those in a release, not %v", first)
	}
	if n := len(order); n != len(keys) {
		t.Errorf("%d of %d", n, len(keys))
	}
}

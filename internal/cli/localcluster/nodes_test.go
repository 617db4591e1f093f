package localcluster

import (
	"testing"

	"everynode/internal/local"
)

func TestReserved(t *testing.T) {
	for _, c := range []struct {
		size local.Size
		want string
	}{
		{local.Size{}, ""},
		{local.Size{CPU: 500}, "cpu=1500m"},
		{local.Size{Memory: 1 << 30}, "memory=3221225472"},
		{local.Size{CPU: 2000, Memory: 4 << 30}, "cpu=0m,memory=0"},
	} {
		if got := reserved(c.size, local.Size{CPU: 2000, Memory: 4 << 30}); got != c.want {
			t.Errorf("a node of %+v on 2 CPUs and 4 GiB: others use %q, want %q", c.size, got, c.want)
		}
	}
}

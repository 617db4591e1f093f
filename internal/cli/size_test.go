package cli

import (
	"testing"

	"github.com/spf13/pflag"

	"everynode/internal/local"
)

func TestSize(t *testing.T) {
	for _, c := range []struct {
		cpu, memory string
		want        local.Size
		ok          bool
	}{
		{"", "", local.Size{}, true},
		{"500m", "", local.Size{CPU: 500}, true},
		{"1", "256Mi", local.Size{CPU: 1000, Memory: 256 << 20}, true},
		{"0", "", local.Size{}, false},
		{"-1", "", local.Size{}, false},
		{"two", "", local.Size{}, false},
		{"", "1Mi", local.Size{}, false},
		{"1000", "", local.Size{}, false},
		{"", "1Ei", local.Size{}, false},
	} {
		flags := newSizeFlags(pflag.NewFlagSet("", pflag.ContinueOnError))
		flags.cpu, flags.memory = c.cpu, c.memory
		if got, err := flags.size(); got != c.want || (err == nil) != c.ok {
			t.Errorf("--node-cpu %q --node-memory %q: %+v, %v", c.cpu, c.memory, got, err)
		}
	}
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

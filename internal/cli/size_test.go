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
}

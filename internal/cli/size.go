package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"everynode/internal/cli/console"
	"everynode/internal/local"
)

// sizeFlags are the flags that limit what all pods of a new node get together.
type sizeFlags struct{ cpu, memory string }

func newSizeFlags(flags *pflag.FlagSet) *sizeFlags {
	s := &sizeFlags{}
	flags.StringVar(&s.cpu, "node-cpu", "", "CPUs that the pods of each new node have together, such as 2 or 500m (default: all)")
	flags.StringVar(&s.memory, "node-memory", "", "memory that they have together, such as 2Gi (default: all)")
	return s
}

// checkSimulated refuses the flags where all new nodes are simulated.
func (s *sizeFlags) checkSimulated() error {
	if s.cpu != "" || s.memory != "" {
		return console.Usage(errors.New("--node-cpu and --node-memory are for real nodes, and simulated ones all have the same size: leave them out"))
	}
	return nil
}

// size reads the flags, and refuses more than this machine has.
func (s *sizeFlags) size() (local.Size, error) {
	var size local.Size
	for _, f := range []struct {
		name, text string
		into       *int64
		read       func(resource.Quantity) int64
	}{
		{"node-cpu", s.cpu, &size.CPU, func(q resource.Quantity) int64 { return q.MilliValue() }},
		{"node-memory", s.memory, &size.Memory, func(q resource.Quantity) int64 { return q.Value() }},
	} {
		if f.text == "" {
			continue
		}
		q, err := resource.ParseQuantity(f.text)
		if err != nil || q.Sign() <= 0 {
			return local.Size{}, console.Usage(fmt.Errorf("--%s %s: give an amount as Kubernetes has it, such as 2, 500m or 2Gi", f.name, f.text))
		}
		*f.into = f.read(q)
	}
	machine, err := local.MachineSize()
	if err != nil {
		return local.Size{}, err
	}
	if err := size.Within(machine); err != nil {
		return local.Size{}, console.Usage(err)
	}
	return size, nil
}

// Containerd-shim-runc-v2 is containerd's own shim with one addition: as containerd sees it, a process has closed its
// output only when it has ended.
//
// containerd, up to 2.4.2 at least, stops passing input on when it sees the end of a process's standard output or
// error (its issues 12734 and 13934). But a process may close those and continue to read. Of the input of
// `kubectl exec -i POD -- sh -c 'cat > file'` only the first 32 to 230 kB arrived, and the exit code was 0.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

func main() {
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newTaskService,
	})
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}

// newTaskService makes the service that containerd calls to run containers: the one of containerd's own shim, inside
// an outputHolder.
func newTaskService(ic *plugin.InitContext) (any, error) {
	publisher, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	stop, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	service, err := task.NewTaskService(ic.Context, publisher.(shim.Publisher), stop.(shutdown.Service))
	if err != nil {
		return nil, err
	}
	return &outputHolder{TTRPCTaskService: service}, nil
}

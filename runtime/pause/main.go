// Command pause holds a pod's namespaces open. It does nothing but wait, reap the orphans that
// become its children when a pod's containers share one PID namespace, and end at once when told to.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"everynode/runtime/orphans"
)

func main() {
	// One small process per pod on every node: a heap that never grows needs no collector.
	debug.SetGCPercent(-1)
	orphans.Wait(listen())
}

// listen returns the signals that matter from now on.
func listen() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	return signals
}

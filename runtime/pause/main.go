// Command pause holds a pod's namespaces open. It does nothing but wait, reap the orphans that
// become its children when a pod's containers share one PID namespace, and end at once when told to.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	// One small process per pod on every node: a heap that never grows needs no collector.
	debug.SetGCPercent(-1)
	wait(listen())
}

// listen returns the signals that matter from now on.
func listen() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	return signals
}

// wait returns on the first signal that asks the process to end. Children that ended before it was
// called, when no handler stood yet, are reaped first.
func wait(signals <-chan os.Signal) {
	reap()
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap collects every child that has ended. Signals merge, so one SIGCHLD may stand for several.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

// Package orphans is what the first process of a PID namespace does as long as it lives: it reaps the processes whose
// parents have ended, which become its children.
package orphans

import (
	"os"
	"syscall"
)

// Wait returns on the first of these signals that is not SIGCHLD, which must be among them. Children that ended before
// the call, when there was no handler yet, are reaped first.
func Wait(signals <-chan os.Signal) {
	reap()
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap reaps every child that has ended. Signals merge, so one SIGCHLD may stand for several.
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

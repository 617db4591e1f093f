//go:build unix

package verbs

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyOfSize sends a signal when the size of the terminal changes.
func notifyOfSize(to chan<- os.Signal) { signal.Notify(to, syscall.SIGWINCH) }

// takesSequences makes a terminal interpret escape sequences, which it does here
// anyway.
func takesSequences(*os.File) error { return nil }

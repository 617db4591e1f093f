//go:build unix

package verbs

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyOfSize has a signal sent when the terminal has another size.
func notifyOfSize(to chan<- os.Signal) { signal.Notify(to, syscall.SIGWINCH) }

// takesSequences makes a terminal heed escape sequences, which it does here anyway.
func takesSequences(*os.File) error { return nil }

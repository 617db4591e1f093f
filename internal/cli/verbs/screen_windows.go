package verbs

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// notifyOfSize does nothing: Windows sends no signal when the size of the terminal changes. The next picture has the
// new size.
func notifyOfSize(chan<- os.Signal) {}

// takesSequences makes a terminal interpret escape sequences. Windows consoles print them by default.
func takesSequences(out *os.File) error {
	handle, mode := windows.Handle(out.Fd()), uint32(0)
	err := windows.GetConsoleMode(handle, &mode)
	if err == nil {
		err = windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
	}
	if err != nil {
		return fmt.Errorf("set up the terminal: %w; --once does without", err)
	}
	return nil
}

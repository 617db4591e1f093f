package local

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating system thread that ends with fn, so that fn may move its thread into other
// namespaces. It waits for fn.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end early, and /proc/self shows its namespaces to the whole process. While it is
			// locked here, another goroutine is sure to run on another thread.
			defer runtime.UnlockOSThread()
			done <- onThread(fn)
			return
		}
		// Not unlocked: the runtime then ends the thread with this goroutine.
		done <- fn()
	}()
	return <-done
}

// inNamespaces runs fn on a thread inside the namespaces of pins, and waits for it.
func inNamespaces(pins []pin, fn func() error) error {
	return onThread(func() error {
		if err := joinNamespaces(pins); err != nil {
			return err
		}
		return fn()
	})
}

// joinNamespaces moves the calling thread into namespaces. The thread must be locked and must never be unlocked. All
// pins are opened before the first move, because a mount namespace may not show the others.
func joinNamespaces(pins []pin) error {
	// A thread that shares its root and working directory with others may not change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("separate a thread from its process: %w", err)
	}
	files := make([]*os.File, len(pins))
	for i, p := range pins {
		f, err := os.Open(p.file)
		if err != nil {
			return fmt.Errorf("open the %s namespace: %w; the node is not set up, run: everynode up", p.kind, err)
		}
		defer f.Close()
		files[i] = f
	}
	for i, p := range pins {
		if err := unix.Setns(int(files[i].Fd()), p.flag); err != nil {
			return fmt.Errorf("join the %s namespace %s: %w; the node is not set up, run: everynode up", p.kind, p.file, err)
		}
	}
	return nil
}

package datadir

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// A process that has ended but was not waited for has a folder in /proc, into which
// only root may look, and holds nothing.
func TestZombiesAreTold(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ended.Wait(); err != nil {
			t.Error(err)
		}
	}()
	limit := time.After(10 * time.Second)
	for tick := time.NewTicker(time.Millisecond); !isZombie(ended.Process.Pid); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it has not ended, or is not told for a zombie")
		}
	}
	if isZombie(os.Getpid()) {
		t.Error("this process is told for a zombie")
	}
}

package datadir

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A process in a PID namespace of its own writes the pid by which others know it. Its children, which inherit the
// variable, write their own.
func TestNumberOutside(t *testing.T) {
	for _, tt := range []struct{ told, want string }{
		{"", fmt.Sprint(os.Getpid())},
		{fmt.Sprintf("%d=4711", os.Getpid()), "4711"},
		{fmt.Sprintf("%d=4711", os.Getppid()), fmt.Sprint(os.Getpid())},
		{"nonsense", fmt.Sprint(os.Getpid())},
	} {
		t.Setenv(PIDVariable, tt.told)
		file := filepath.Join(t.TempDir(), "lock")
		release, err := Lock(file)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := os.ReadFile(file); err != nil || string(raw) != tt.want+"\n" {
			t.Errorf("told %q, the lock file has %q, %v; want %s", tt.told, raw, err, tt.want)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
}

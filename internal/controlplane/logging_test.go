package controlplane

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Hundreds of failing connections cause one line in ten seconds.
func TestThinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		log := newThinned(func(args ...any) { lines = append(lines, fmt.Sprint(args...)) })
		for range 3 {
			for i := range 100 {
				fmt.Fprintf(log, "connection %d failed\n", i)
			}
			time.Sleep(thinnedInterval)
		}
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "connection 0 failed (shown once in 10s") {
			t.Errorf("got %d lines, want 3: %q", len(lines), lines)
		}
	})
}

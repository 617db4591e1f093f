package console

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// On a terminal a count replaces the one before; elsewhere each has its own line.
func TestCounter(t *testing.T) {
	for terminal, want := range map[bool]string{
		false: "[  0.0s] 0 of 5,000 simulated nodes Ready\n[  2.0s] 1,000 of 5,000 simulated nodes Ready, about 8s more\n[  4.0s] all there (4.0s)\n",
		true:  "\r[  0.0s] 0 of 5,000 simulated nodes Ready\x1b[K\r[  2.0s] 1,000 of 5,000 simulated nodes Ready, about 8s more\x1b[K\r\x1b[K[  4.0s] all there (4.0s)\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := NewProgress(&out)
			p.terminal = terminal
			tell, done := p.Counter(), p.Step()
			tell(0, 5000)
			<-time.After(2 * time.Second)
			tell(1000, 5000)
			<-time.After(2 * time.Second)
			done("all there")
			if out.String() != want {
				t.Errorf("%q\nwant %q", out.String(), want)
			}
		})
	}
}

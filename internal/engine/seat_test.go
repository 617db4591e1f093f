package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

// awayNow returns how many decisions of a namespace are without a seat.
func (s *seats) awayNow(namespace string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away[namespace]
}

// A decision that waits for a free seat can begin other requests.
func TestSeatIsFreeToAskWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newSeats(1)
		all.take()
		st := all.sit("a")
		ctx := seated(t.Context(), st)
		first := waits(ctx)
		time.Sleep(2 * seatPatience) // it gives its seat away,
		all.take()                   // and another decision takes it
		other := all.sit("b")
		ends := make(chan string, 2)
		go func() { first(); ends <- "first" }()
		synctest.Wait()
		if !st.mu.TryLock() {
			t.Fatal("the decision is locked while it waits for a seat")
		}
		st.mu.Unlock()
		second := waits(ctx)
		go func() { second(); ends <- "second" }()
		synctest.Wait()
		third := waits(ctx)
		synctest.Wait()
		time.Sleep(2 * seatPatience) // the third takes long
		if len(ends) > 0 || all.awayNow("a") != 1 {
			t.Fatalf("%d answers are handled without a seat; %d decisions are without one", len(ends), all.awayNow("a"))
		}
		all.stand(other)
		<-ends
		<-ends
		if len(all.free) != 1 || all.awayNow("a") != 0 {
			t.Errorf("%d seats are taken by one decision; %d are without one", len(all.free), all.awayNow("a"))
		}
		time.Sleep(2 * seatPatience)
		if len(all.free) != 0 || all.awayNow("a") != 1 {
			t.Errorf("while the third request hangs, %d seats are taken; %d decisions are without one", len(all.free), all.awayNow("a"))
		}
		third()
		all.stand(st)
		if len(all.free) != 0 || all.awayNow("a") != 0 || len(all.taken) != 0 {
			t.Errorf("left over: %d, %d, %d", len(all.free), all.awayNow("a"), len(all.taken))
		}
	})
}

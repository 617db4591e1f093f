package sim

import (
	"slices"

	"everynode/internal/rollout"
)

// asked is called when a controller has worked out the next state of a release (R8). Requests about other releases
// must change nothing. Requests about a release that has not begun must be reported, and so must new ones about a release
// that is over.
func (k *checker) asked(c *controller, in *rollout.Seen, next *rollout.State) {
	if c.index.keeper == nil {
		return
	}
	all, as, before := c.index.keeper.requests, *in, c.course.state
	as.Requests = rollout.Requests{Paused: all.Paused}
	aimed, _ := rollout.Advance(c.policy(), before, &as, c.clock())
	if as.Requests = about(all, aimed.Release, next.Release); as.Requests == all { // a retry begins another one
		return
	}
	want, _ := rollout.Advance(c.policy(), before, &as, c.clock())
	is, told := *next, next.Ignored != ""
	is.Ignored, want.Ignored = "", ""
	underWay := before.Target != before.Stable || aimed.Target != aimed.Stable
	ends := next.Release != aimed.Release || underWay && next.Target == next.Stable
	switch {
	case is != want:
		k.w.fail("R8: of %+v only %+v is about release %d; it is %+v then, not %+v", all, as.Requests, aimed.Release, want, is)
	case tooLate(all, in.Heeded, aimed.Release) && !told:
		k.w.fail("R8: nothing is said of %+v, of which some is new and about an earlier release than %d", all, aimed.Release)
	case latest(all) > next.Release && !told && !ends:
		k.w.fail("R8: nothing is said of %+v, of which some is about another release than %d", all, next.Release)
	}
}

// about returns the requests about these releases.
func about(r rollout.Requests, numbers ...int) rollout.Requests {
	is := func(number int) bool { return slices.Contains(numbers, number) }
	if !is(r.Promote.Release) {
		r.Promote = rollout.Promotion{}
	}
	if !is(r.Resume.Release) {
		r.Resume = rollout.Resumption{}
	}
	for _, number := range []*int{&r.Abort, &r.Retry, &r.Plain} {
		if !is(*number) {
			*number = 0
		}
	}
	return r
}

// tooLate reports whether a request that was not there before is about a release that is over.
func tooLate(all, before rollout.Requests, release int) bool {
	for _, r := range []struct {
		number int
		made   bool
	}{
		{all.Promote.Release, all.Promote != before.Promote}, {all.Resume.Release, all.Resume != before.Resume},
		{all.Abort, all.Abort != before.Abort}, {all.Retry, all.Retry != before.Retry}, {all.Plain, all.Plain != before.Plain},
	} {
		if r.made && r.number > 0 && r.number < release {
			return true
		}
	}
	return false
}

// latest returns the last release that any request is about.
func latest(r rollout.Requests) int {
	return max(r.Promote.Release, r.Resume.Release, r.Abort, r.Retry, r.Plain)
}

// anyRelease returns the requests as if all were about that release.
func anyRelease(r rollout.Requests, number int) rollout.Requests {
	for _, of := range []*int{&r.Promote.Release, &r.Resume.Release, &r.Abort, &r.Retry, &r.Plain} {
		if *of > 0 {
			*of = number
		}
	}
	return r
}

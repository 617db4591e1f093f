package delivery_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"everynode/internal/delivery"
)

// server holds the pods of one name each, and answers badly.
type server struct {
	t    *rapid.T
	pods map[string]*held
	made int
	well bool     // it answers
	late []func() // requests whose error came before they did
}

type held struct {
	uid     string
	ours    bool
	version uint64
	ending  bool
	unfit   bool
	changed bool
}

// TestOnePod makes attempts until one of them has made or found the pod. Answers
// are lost, requests come late, others have the first names: there is one pod.
func TestOnePod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &server{t: t, pods: map[string]*held{}}
		for _, name := range []string{"web", "web-1", "web-2"} {
			if rapid.Bool().Draw(t, "another has "+name) {
				s.pods[name] = &held{uid: "other"}
			}
		}
		for tries := 0; ; tries++ {
			if tries == 22 {
				t.Fatal("two attempts with good answers were not enough")
			}
			s.well = tries >= 20
			o := s.play(create()(), "")
			s.arrive()
			if s.made > 1 {
				t.Fatalf("%d pods were made", s.made)
			}
			if o.Fate == delivery.OK || o.Lesson == delivery.Claimed {
				if s.made != 1 {
					t.Fatalf("it ends as %+v, and there is no pod", o)
				}
				return
			}
		}
	})
}

// TestOneDelete lets others change, delete and replace the pod meanwhile.
func TestOneDelete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pod := &held{uid: "u1", version: 7}
		s := &server{t: t, pods: map[string]*held{"web": pod}}
		version := rapid.SampledFrom([]uint64{0, 7}).Draw(t, "version")
		o := s.play(remove(version, rapid.Bool().Draw(t, "serving"))(), "u1")
		there := s.pods["web"] == pod
		switch {
		case o.Fate == delivery.OK && there && !pod.ending:
			t.Fatalf("it ends as %+v, and nobody has deleted the pod", o)
		case o.Lesson == delivery.Gone && there:
			t.Fatalf("it is said to be gone: %+v", o)
		case o.Fate == delivery.Stale && o.Lesson == delivery.Seen && !o.Settled:
			t.Fatalf("nobody has read it: %+v", o)
		}
		s.arrive()
		if p := s.pods["web"]; p != nil && p.uid != "u1" && p.ending {
			t.Fatal("the pod of another was deleted")
		}
	})
}

// play answers until the attempt ends. After many bad answers come good ones.
func (s *server) play(a *delivery.Attempt, uid string) delivery.Outcome {
	now := time.Unix(0, 0)
	for steps := 0; ; steps++ {
		ask := a.Next()
		if ask.Verb == delivery.Done {
			return a.Outcome()
		}
		if steps == 200 {
			s.t.Fatalf("it goes on: %+v", ask)
		}
		now = now.Add(ask.Pause)
		a.Answer(now, s.serve(ask, uid, s.well || steps > 50))
	}
}

func (s *server) serve(ask delivery.Request, uid string, well bool) delivery.Answer {
	do := func() delivery.Answer { return s.do(ask, uid) }
	if ask.Verb == delivery.Rest || ask.Verb == delivery.Yield {
		return delivery.Answer{}
	}
	s.meddle(uid)
	how := 0
	if !well {
		how = rapid.IntRange(0, 5).Draw(s.t, "how")
	}
	switch how {
	case 1: // it does not come through
		return delivery.Answer{Fate: delivery.Unknown}
	case 2: // its answer does not
		do()
		return delivery.Answer{Fate: delivery.Unknown}
	case 3:
		s.late = append(s.late, func() { do() })
		return delivery.Answer{Fate: delivery.Unknown}
	case 4: // a proxy does not know the page
		return delivery.Answer{Fate: delivery.Stale}
	}
	return do()
}

// arrive lets the late requests come.
func (s *server) arrive() {
	for _, do := range s.late {
		do()
	}
	s.late = nil
}

// meddle is what others do to the pod of a delete.
func (s *server) meddle(uid string) {
	p := s.pods["web"]
	if uid == "" || p == nil {
		return
	}
	switch rapid.IntRange(0, 9).Draw(s.t, "others") {
	case 0:
		p.version++
	case 1:
		p.ending, p.version = p.uid == uid, p.version+1
	case 2:
		delete(s.pods, "web")
	case 3:
		s.pods["web"] = &held{uid: "u2", version: 1}
	}
}

func (s *server) do(ask delivery.Request, uid string) delivery.Answer {
	p := s.pods[ask.Name]
	switch {
	case ask.Verb == delivery.Create && p != nil:
		return delivery.Answer{Fate: delivery.Refused, Exists: true}
	case ask.Verb == delivery.Create:
		s.made++
		p = &held{uid: "u1", ours: true}
		s.pods[ask.Name] = p
	case p == nil:
		return delivery.Answer{Fate: delivery.Stale, Missing: ask.Verb == delivery.Get}
	case ask.Verb == delivery.Change && ask.Version == 0:
		s.t.Fatal("a change of any version")
	case (ask.Verb == delivery.Delete || ask.Verb == delivery.Change) && (p.uid != uid || ask.Version != 0 && p.version != ask.Version):
		return delivery.Answer{Fate: delivery.Stale, Conflict: true}
	case ask.Verb == delivery.Delete:
		p.ending = true
	case ask.Verb == delivery.Change:
		if p.ending || p.changed {
			s.t.Fatalf("it is changed, and was not as the decision has it: %+v", p)
		}
		p.changed, p.version = true, p.version+1
	}
	return delivery.Answer{Pod: delivery.Pod{UID: p.uid, Version: p.version, Ours: p.ours, Alike: !p.ending && !p.changed, Ending: p.ending, Unfit: p.unfit, Changed: p.changed}}
}

// TestOneChange lets others change, delete and replace the pod meanwhile, or find fault with it.
func TestOneChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pod := &held{uid: "u1", version: 7, unfit: rapid.IntRange(0, 5).Draw(t, "unfit") == 0}
		s := &server{t: t, pods: map[string]*held{"web": pod}}
		o := s.play(delivery.NewChange("web", "u1"), "u1")
		there := s.pods["web"] == pod
		switch {
		case o.Fate == delivery.OK && there && !pod.changed:
			t.Fatalf("it ends as %+v, and nobody has changed the pod", o)
		case o.Lesson == delivery.Gone && there:
			t.Fatalf("it is said to be gone: %+v", o)
		case o.Lesson == delivery.Unfit && !pod.unfit:
			t.Fatalf("it is said to be unfit: %+v", o)
		case o.Fate == delivery.Unknown && !o.Settled:
			t.Fatalf("it ends as %+v, and nobody has read the pod", o)
		case o.Fate != delivery.OK && there && pod.changed:
			t.Fatalf("it ends as %+v, and the pod is changed", o)
		}
		s.arrive()
		if pod.changed && pod.unfit {
			t.Fatal("it was changed, and could not be")
		}
		for _, p := range s.pods {
			if p.uid != "u1" && p.changed {
				t.Fatal("the pod of another was changed")
			}
		}
	})
}

// A pod that is always another version is left alone after some tries, and decided on again later.
func TestChangeOfABusyPod(t *testing.T) {
	a := delivery.NewChange("web", "u1")
	for tries := 0; a.Next().Verb != delivery.Done; tries++ {
		if tries > 4*delivery.MaxConflicts {
			t.Fatal("it goes on")
		}
		switch a.Next().Verb {
		case delivery.Get:
			a.Answer(time.Unix(0, 0), delivery.Answer{Pod: delivery.Pod{UID: "u1", Version: uint64(tries), Alike: true}})
		case delivery.Change:
			a.Answer(time.Unix(0, 0), delivery.Answer{Fate: delivery.Stale, Conflict: true})
		default:
			t.Fatalf("it asks for %+v", a.Next())
		}
	}
	if o := a.Outcome(); o.Fate != delivery.Stale || o.Lesson != delivery.Nothing {
		t.Errorf("it ends as %+v", o)
	}
}

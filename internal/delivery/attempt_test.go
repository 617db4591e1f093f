package delivery_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"everynode/internal/delivery"
)

// A story is what an attempt asks for, one line each, with what it is told:
//
//	create web -> exists
//	get web -> of another
//	create web-1 -> done
//	ends: done, ours
//
// The answers are given, the rest is what the attempt must say.
type story struct {
	name    string
	attempt func() *delivery.Attempt
	want    string
}

func create(taken ...string) func() *delivery.Attempt {
	return func() *delivery.Attempt {
		return delivery.NewCreate(func(salt int) string {
			if salt == 0 {
				return "web"
			}
			return "web-" + strconv.Itoa(salt)
		}, taken)
	}
}

func remove(version uint64, serving bool) func() *delivery.Attempt {
	return func() *delivery.Attempt { return delivery.NewDelete("web", "u1", version, serving) }
}

// answers returns what can be said in a story.
func answers() map[string]delivery.Answer {
	pod := func(p delivery.Pod) delivery.Answer { return delivery.Answer{Pod: p} }
	return map[string]delivery.Answer{
		"":                {},
		"done":            pod(delivery.Pod{UID: "u1", Ours: true}),
		"exists":          {Fate: delivery.Refused, Exists: true},
		"lost":            {Fate: delivery.Unknown},
		"refused":         {Fate: delivery.Refused},
		"throttled":       {Fate: delivery.Throttled, Wait: 3 * time.Second},
		"over quota":      {Fate: delivery.OverQuota},
		"terminating":     {Fate: delivery.Terminating},
		"404":             {Fate: delivery.Stale},
		"conflict":        {Fate: delivery.Stale, Conflict: true},
		"missing":         {Fate: delivery.Stale, Missing: true},
		"stopped":         {Fate: delivery.Stopped},
		"ours":            pod(delivery.Pod{UID: "u1", Ours: true}),
		"of another":      pod(delivery.Pod{UID: "u2"}),
		"ending":          pod(delivery.Pod{UID: "u1", Ending: true}),
		"gone":            pod(delivery.Pod{UID: "u1", Ending: true, Gone: true}),
		"as it was":       pod(delivery.Pod{UID: "u1"}),
		"alike, now at 8": pod(delivery.Pod{UID: "u1", Alike: true, Version: 8}),
		"alike, now at 9": pod(delivery.Pod{UID: "u1", Alike: true, Version: 9}),
		"changed":         pod(delivery.Pod{UID: "u1", Version: 8}),
	}
}

func storiesOfCreates() []story {
	return []story{
		{"a create", create(), `
			create web -> done
			ends: done, ours`},
		{"names of known pods are passed over", create("web", "web-2"), `
			create web-1 -> exists
			get web-1 -> of another
			create web-3 -> done
			ends: done, ours`},
		{"the name is that of a pod of ours that nobody knew", create(), `
			create web -> exists
			get web -> ours
			ends: stale, claimed`},
		{"the pod that has the name goes meanwhile", create(), `
			create web -> exists
			get web -> missing
			ends: stale`},
		{"nobody can say who has the name", create(), `
			create web -> exists
			get web -> throttled
			ends: throttled after 3s`},
		{"all names are taken", create(), `
			create web -> exists
			get web -> of another
			create web-1 -> exists
			get web-1 -> of another
			create web-2 -> exists
			get web-2 -> of another
			create web-3 -> exists
			get web-3 -> of another
			create web-4 -> exists
			get web-4 -> of another
			create web-5 -> exists
			get web-5 -> of another
			create web-6 -> exists
			get web-6 -> of another
			create web-7 -> exists
			get web-7 -> of another
			ends: refused, names taken`},
		{"a namespace that is not there", create(), `
			create web -> 404
			ends: refused`},
		{"a quota", create(), `
			create web -> over quota
			ends: over_quota`},
		{"a namespace that goes", create(), `
			create web -> terminating
			ends: namespace_terminating`},
		{"a create without an answer that was done", create(), `
			create web -> lost
			get web -> ours
			ends: done, ours, settled`},
		{"a create without an answer that was not done", create(), `
			create web -> lost
			get web -> missing
			ends: unknown, settled`},
		{"a create without an answer: another has the name", create(), `
			create web -> lost
			get web -> of another
			ends: unknown, settled`},
		{"reads that tell nothing are not the end", create(), `
			create web -> lost
			get web -> lost
			rest 50ms ->
			get web -> 404
			rest 100ms ->
			get web -> refused
			rest 200ms ->
			get web -> throttled
			rest 400ms ->
			get web -> lost
			rest 800ms ->
			get web -> lost
			rest 1.6s ->
			yield ->
			get web -> lost
			rest 3.2s ->
			get web -> ours
			ends: done, ours, settled`},
		{"whoever sends stops in the middle", create(), `
			create web -> lost
			get web -> lost
			rest 50ms -> stopped
			ends: abandoned`},
	}
}

func storiesOfDeletes() []story {
	return []story{
		{"a delete", remove(7, true), `
			delete web at 7 -> ending
			ends: done, ours`},
		{"a delete of a pod that nothing holds", remove(0, false), `
			delete web -> gone
			ends: done, gone`},
		{"a delete that was refused", remove(0, false), `
			delete web -> refused
			ends: refused`},
		{"a delete that the server asks to wait with", remove(0, false), `
			delete web -> throttled
			ends: throttled after 3s`},
		{"a pod that has changed in nothing that matters", remove(7, true), `
			delete web at 7 -> conflict
			get web -> alike, now at 8
			delete web at 8 -> ending
			ends: done, ours`},
		{"a pod that has changed in what matters", remove(7, true), `
			delete web at 7 -> conflict
			get web -> changed
			get web -> changed
			ends: stale, seen, settled`},
		{"a conflict although the version is the one that was named", remove(8, true), `
			delete web at 8 -> conflict
			get web -> alike, now at 8
			get web -> as it was
			ends: stale, seen, settled`},
		{"a pod that serves and changes all the time", remove(7, true), `
			delete web at 7 -> conflict
			get web -> alike, now at 8
			delete web at 8 -> conflict
			get web -> alike, now at 9
			delete web at 9 -> conflict
			get web -> alike, now at 8
			delete web at 8 -> conflict
			get web -> alike, now at 9
			delete web -> ending
			ends: done, ours`},
		{"a pod that does not serve and changes all the time", remove(7, false), `
			delete web at 7 -> conflict
			get web -> alike, now at 8
			delete web at 8 -> conflict
			get web -> alike, now at 9
			delete web at 9 -> conflict
			get web -> alike, now at 8
			delete web at 8 -> conflict
			get web -> alike, now at 9
			get web -> as it was
			ends: stale, seen, settled`},
		{"another pod has the name by now", remove(0, false), `
			delete web -> conflict
			get web -> of another
			ends: done, gone, settled`},
		{"a pod that has gone", remove(0, false), `
			delete web -> 404
			get web -> missing
			ends: done, gone, settled`},
		{"a 404 that is not about the pod", remove(0, false), `
			delete web -> 404
			get web -> 404
			rest 50ms ->
			get web -> as it was
			ends: stale, seen, settled`},
		{"a delete without an answer that was done", remove(7, true), `
			delete web at 7 -> lost
			get web -> ending
			ends: done, ours, settled`},
		{"a delete without an answer that was not done", remove(7, true), `
			delete web at 7 -> lost
			get web -> as it was
			ends: unknown, seen, settled`},
		{"the answer to a delete is about another pod", remove(0, false), `
			delete web -> of another
			get web -> as it was
			ends: stale, seen, settled`},
	}
}

func TestStories(t *testing.T) {
	for _, s := range slices.Concat(storiesOfCreates(), storiesOfDeletes()) {
		t.Run(s.name, func(t *testing.T) {
			want := strings.Split(strings.ReplaceAll(strings.TrimSpace(s.want), "\t", ""), "\n")
			a, now := s.attempt(), time.Unix(0, 0)
			for i, line := range want {
				asked, told, more := strings.Cut(line, " ->")
				if got := text(a); got != asked {
					t.Fatalf("line %d: %q, want %q", i+1, got, asked)
				}
				r, is := answers()[strings.TrimSpace(told)]
				if more && !is {
					t.Fatalf("line %d: nobody can say %q", i+1, told)
				}
				if ask := a.Next(); ask.Verb == delivery.Rest {
					now = now.Add(ask.Pause)
				}
				a.Answer(now, r)
			}
			if ask := a.Next(); ask.Verb != delivery.Done {
				t.Errorf("it goes on: %+v", ask)
			}
		})
	}
}

// text returns what an attempt asks for, or how it ended.
func text(a *delivery.Attempt) string {
	ask := a.Next()
	version := ""
	if ask.Version != 0 {
		version = fmt.Sprintf(" at %d", ask.Version)
	}
	switch ask.Verb {
	case delivery.Create:
		return "create " + ask.Name
	case delivery.Delete:
		return "delete " + ask.Name + version
	case delivery.Get:
		return "get " + ask.Name
	case delivery.Rest:
		return "rest " + ask.Pause.String()
	case delivery.Yield:
		return "yield"
	}
	return ending(a.Outcome())
}

func ending(o delivery.Outcome) string {
	text := "ends: " + o.Fate.String()
	if o.Wait > 0 {
		text += " after " + o.Wait.String()
	}
	text += [...]string{"", ", ours", ", seen", ", claimed", ", gone"}[o.Lesson]
	if o.Settled {
		text += ", settled"
	}
	if o.NamesTaken {
		text += ", names taken"
	}
	return text
}

func TestUndone(t *testing.T) {
	for o, want := range map[delivery.Outcome]bool{
		{Fate: delivery.OK, Settled: true}:      false,
		{Fate: delivery.Stopped}:                false,
		{Fate: delivery.Unknown}:                false,
		{Fate: delivery.Unknown, Settled: true}: true,
		{Fate: delivery.Refused}:                true,
		{Fate: delivery.Stale, Settled: true}:   true,
	} {
		if o.Undone() != want {
			t.Errorf("%+v: undone %v, want %v", o, o.Undone(), want)
		}
	}
}

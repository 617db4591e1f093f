package plan

// apply adds or subtracts what one node contributes to the status. Nodes that should not run a
// pod only ever add to Misscheduled.
func (s *Status) apply(v *Verdict, sign int) {
	count(&s.Desired, v.Desired, sign)
	count(&s.Current, v.Current, sign)
	count(&s.Misscheduled, v.Misscheduled, sign)
	count(&s.Ready, v.Ready, sign)
	count(&s.Updated, v.Updated, sign)
	count(&s.Available, v.Available, sign)
	count(&s.Unavailable, v.Desired && !v.Available, sign)
}

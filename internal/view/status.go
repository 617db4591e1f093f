package view

import (
	appsv1 "k8s.io/api/apps/v1"

	"everynode/internal/plan"
)

// Status returns the DaemonSet's status with these counts. Everything else in it stays:
// the conditions belong to others or to SetConditions, and collisionCount to the
// history. observedGeneration never goes back, unless somebody has written one that is yet to come.
func Status(ds *appsv1.DaemonSet, s plan.Status, observedGeneration int64) appsv1.DaemonSetStatus {
	out := *ds.Status.DeepCopy()
	out.DesiredNumberScheduled = int32(s.Desired)
	out.CurrentNumberScheduled = int32(s.Current)
	out.NumberMisscheduled = int32(s.Misscheduled)
	out.NumberReady = int32(s.Ready)
	out.UpdatedNumberScheduled = int32(s.Updated)
	out.NumberAvailable = int32(s.Available)
	out.NumberUnavailable = int32(s.Unavailable)
	if out.ObservedGeneration < observedGeneration || out.ObservedGeneration > ds.Generation {
		out.ObservedGeneration = observedGeneration
	}
	return out
}

package sim

import (
	"math"

	"everynode/internal/plan"
)

// Bug is a mistake that the model controller makes on purpose. A simulator that finds
// no mistakes proves nothing: a test plants each of these and runs until it is found.
type Bug string

// The bugs.
const (
	NoBug           Bug = ""
	NoOverlay       Bug = "no-overlay"        // acknowledged writes are not overlaid on the watch
	NoUncertainty   Bug = "no-uncertainty"    // writes under way are not counted
	TrustNoAnswer   Bug = "trust-no-answer"   // a lost answer means that nothing happened
	NoPremise       Bug = "no-premise"        // deletes carry no resource version
	NoPredecessor   Bug = "no-predecessor"    // names do not depend on the previous pod
	RandomNames     Bug = "random-names"      // names are random
	NoLiveNode      Bug = "no-live-node"      // a watched DELETE of a node is believed
	BudgetPlusOne   Bug = "budget-plus-one"   // one more node may be down
	SurgePlusOne    Bug = "surge-plus-one"    // one more node may surge
	ExcuseAlways    Bug = "excuse-always"     // every NotReady node is excused
	ExcuseNever     Bug = "excuse-never"      // no node is excused
	NoMinReady      Bug = "no-min-ready"      // pods count as soon as they are ready
	ForceOnDelete   Bug = "force-on-delete"   // OnDelete is treated as RollingUpdate
	NoTaints        Bug = "no-taints"         // taints are not seen
	GoneTakesAll    Bug = "gone-takes-all"    // pods go with a node although another node has its name by now
	LeftStays       Bug = "left-stays"        // pods left by an earlier node of a name are taken for pods of the new one
	EagerSuccessor  Bug = "eager-successor"   // a pod is created while the delete of the last one is unanswered
	NoLabels        Bug = "no-labels"         // the node selector is not read
	TrustTimes      Bug = "trust-times"       // the order of events is taken from other machines' clocks
	TrustReadyTimes Bug = "trust-ready-times" // the kubelet's clock decides since when a pod is ready
	FlipIsNew       Bug = "flip-is-new"       // Unknown and False are different troubles of a node
	WaitsHoldRoom   Bug = "waits-hold-room"   // a node whose write was refused keeps its turn
	YoungGoes       Bug = "young-goes"        // with surge, a pod that is ready goes before its successor is available
	NoRemakes       Bug = "no-remakes"        // a pod that others delete is recreated at once, forever
	SamePause       Bug = "same-pause"        // what is answered with 429 is retried at the same pace
	NoNewer         Bug = "no-newer"          // pods of a newer template are treated as outdated
	ForgetsWaiting  Bug = "forgets-waiting"   // it is not remembered that a pod waited for the scheduler
	TriesAgain      Bug = "tries-again"       // a pod that the kubelet refused is treated as a failed one
	ActsBeforeKept  Bug = "acts-before-kept"  // a release goes on before its state is kept
	TrustsWatch     Bug = "trusts-watch"      // a new leader takes the state of a release from its watch
	QuotaForgotten  Bug = "quota-forgotten"   // a new leader does not know the quota
	TargetForNew    Bug = "target-for-new"    // new nodes get the target whatever their turn
	LostAnswerStays Bug = "lost-answer-stays" // a state whose answer was lost is not read again
	FailuresPass    Bug = "failures-pass"     // failures do not stop a release
	GuardForgotten  Bug = "guard-forgotten"   // a new leader does not know what the guard has allowed
	OwnStateStays   Bug = "own-state-stays"   // what another leader has kept is overwritten
	NeedsNoPolicy   Bug = "needs-no-policy"   // a release goes on without its policy
	DeadAreReached  Bug = "dead-are-reached"  // nodes that are down are granted the target like others
	SoaksUnwatched  Bug = "soaks-unwatched"   // a new leader counts time in which nobody has watched
	CountsAloud     Bug = "counts-aloud"      // a soak is written with every event
	AnyRelease      Bug = "any-release"       // a request about one release is applied to any
	PauseForgotten  Bug = "pause-forgotten"   // a pause holds nothing once a release has ended
	TakesOver       Bug = "takes-over"        // beside another controller, pods are created and repaired
	DrivesAll       Bug = "drives-all"        // beside another controller, its RollingUpdate is interfered with
	NotNoticed      Bug = "not-noticed"       // beside another controller, a release does not wait until that controller has seen the template
	LeaksFree       Bug = "leaks-free"        // nodes that another controller has given the target do not count
	TrustsReady     Bug = "trusts-ready"      // a pod that was changed in place counts while it says Ready
	ChangesUnfit    Bug = "changes-unfit"     // a pod that does not match its revision is changed in place
	ChangesBlindly  Bug = "changes-blindly"   // changes apply to any version of the pod
	ChangesTwice    Bug = "changes-twice"     // a pod is changed again before its last change is complete
	LostGoesOn      Bug = "lost-goes-on"      // a release whose kept state was deleted begins again by itself
	NumberIsEnough  Bug = "number-is-enough"  // what one release has begun counts in another one of the same number
	LeavesOnDelete  Bug = "leaves-on-delete"  // a release replaces no outdated pod of a DaemonSet with OnDelete
	ShortLease      Bug = "short-lease"       // slow writes are sent under the ordinary lease
)

// Bugs lists them all.
func Bugs() []Bug {
	return []Bug{NoOverlay, NoUncertainty, TrustNoAnswer, NoPremise, NoPredecessor, RandomNames, NoLiveNode, BudgetPlusOne,
		SurgePlusOne, ExcuseAlways, ExcuseNever, NoMinReady, ForceOnDelete, NoTaints, NoLabels, GoneTakesAll, LeftStays, EagerSuccessor, NoNewer,
		NoRemakes, SamePause, TrustTimes, TrustReadyTimes, FlipIsNew, WaitsHoldRoom, YoungGoes, ForgetsWaiting, TriesAgain, ShortLease}
}

// OfReleases lists the bugs that only a scenario with a policy can show.
func OfReleases() []Bug {
	return []Bug{ActsBeforeKept, TrustsWatch, QuotaForgotten, TargetForNew, LostAnswerStays, FailuresPass, GuardForgotten, PauseForgotten, AnyRelease, OwnStateStays,
		NeedsNoPolicy, DeadAreReached, SoaksUnwatched, CountsAloud, LostGoesOn, NumberIsEnough, LeavesOnDelete}
}

// OfAssisting lists the bugs that only a scenario with another controller can show.
func OfAssisting() []Bug { return []Bug{TakesOver, DrivesAll, NotNoticed, LeaksFree} }

// OfChanging lists the bugs that only a scenario with changes in place can show.
func OfChanging() []Bug { return []Bug{TrustsReady, ChangesUnfit, ChangesBlindly, ChangesTwice} }

// corrupt makes mistakes that package plan would have to make, by changing plan's
// input.
func (b Bug) corrupt(in *plan.Input) {
	switch b {
	case BudgetPlusOne:
		if in.Set.MaxSurge.Value == 0 {
			desired := 0
			for i := range in.Nodes {
				if in.Set.Placement.Admits(&in.Nodes[i]).Run {
					desired++
				}
			}
			n, _ := in.Set.Budget(desired)
			in.Set.MaxUnavailable = plan.Amount{Value: n + 1}
		}
	case SurgePlusOne:
		if s := &in.Set.MaxSurge; s.Value > 0 && !s.Percent {
			s.Value++
		}
	case ExcuseAlways, ExcuseNever:
		for i := range in.Nodes {
			if n := &in.Nodes[i]; !n.Ready && b == ExcuseAlways {
				n.NeverReady = true
			} else if !n.Ready {
				n.NeverReady, n.Down = false, math.MaxInt64
			}
		}
	case DeadAreReached:
		for i := range in.Nodes {
			in.Nodes[i].Ready = true
		}
	case TrustsReady:
		for i := range in.Pods {
			in.Pods[i].Changing = false
		}
	case TrustTimes:
		trustTimes(in)
	case YoungGoes:
		youngGoes(in)
	case NoMinReady:
		in.Set.MinReady = 0
	case ForceOnDelete:
		in.Set.Strategy = plan.RollingUpdate
	case NoTaints:
		in.Set.Placement.Tolerations = []plan.Toleration{{Exists: true}}
	case TriesAgain:
		for i := range in.Pods {
			in.Pods[i].Refused = false
		}
	case NoLabels:
		in.Set.Placement.Selector = nil
	}
}

// trustTimes orders everything by the times in the API.
func trustTimes(in *plan.Input) {
	for i := range in.Nodes {
		n := &in.Nodes[i]
		n.Down = plan.Moment(n.ReadyChanged.Unix() + 1)
	}
	for i := range in.Pods {
		p := &in.Pods[i]
		p.SeenCreated, p.SeenDeleted = plan.Moment(p.Created.Unix()+1), plan.Moment(p.Deleted.Unix()+1)
	}
}

// youngGoes treats old pods that are not available as pods that do not serve.
func youngGoes(in *plan.Input) {
	if in.Set.MaxSurge.Value == 0 {
		return
	}
	for i := range in.Pods {
		p := &in.Pods[i]
		if p.Hash != in.Set.Hash && p.ReadySince.Add(in.Set.MinReady).After(in.Now) {
			p.Ready = false
		}
	}
}

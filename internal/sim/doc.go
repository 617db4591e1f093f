// Package sim is a cluster in memory, made to test that the DaemonSet algorithm is safe: nodes, pods, kubelets, an API with
// watches, and controllers that run package plan over what those watches show. Everything in it can fail.
//
// A Scenario says what the cluster is, what happens to it and when, and how bad the network is. Run plays it on a simulated
// clock: there are no goroutines and no wall clock, and everything random is drawn from the scenario's seed. The same scenario
// always runs the same way.
//
// # What is checked
//
// The numbers are those of package plan. I1, I2, I7, I13 and I14 are checked on the true state of the API, whenever a write takes
// effect. I4, I5 and I6 are checked whenever a controller decides, on what it has watched, overlaid with its own writes. The
// checker takes these writes from the API, not from the controller. When the events are over the cluster is healed. Then every
// node that should run a pod must have exactly one, available and current, and no other node any. The status must be a recount of
// that (I9). Nothing more may be written, whatever heartbeats, bookmarks and new lists come (I10).
//
// # Releases in waves
//
// A scenario with a policy (Scenario.Policy) has its DaemonSet released by package rollout. The model controller keeps the state
// in the API before it acts on it, reads it from there when a term begins, and continues from the kept state when an answer was
// lost or another process has written it (course.go, which takes the decisions of package engine's release.go). People pause,
// promote, abort, retry, and edit or delete the policy in the middle, and make requests about releases that are over or have not
// begun. Waves prefer the nodes of a zone, cover all zones or take one at a time, and edits of the policy add, remove, resize and
// replace waves, or make it one that cannot be followed; windows open and close; nodes change their zone, or are drained; the
// DaemonSetRollout is deleted. What the stable revision needs may be removed, so that its new pods do not start. These are
// checked, too, by the numbers of package rollout:
//
//	R1, R4, R15  when a write begins by which a node gets the target, the state that the API keeps then is about this
//	             target and grants it; and when it takes effect, no more nodes have the target, by the true state of the
//	             API, than the highest quota that was kept. Nodes that got it before a policy came are not counted.
//	R1           the quota that is kept is at most that of the open wave, or has not grown
//	R2           a node gets the target only if its rank is below the quota, and no node like it with a lower rank waits
//	R3           a wave, or a group of it, is left only when it has soaked, as far as its process has watched, or a person has
//	             promoted it, when it was approved, if it needs that, and while a window is open; the next one follows
//	R5           nothing is granted while more nodes have failed than the policy allows
//	R8           requests about other releases change nothing; those about a future release are reported, and so are new
//	             ones about a release that is over
//	R9           the budget holds over both revisions
//	R9b          with the nodes that get the target, no more are under way than the budget and what people have forgiven
//	R10          within an hour, by the engine's clock, no more nodes lose their pods to changes of labels and of the template's
//	             placement than the policy and people allow, whichever process deletes the pods
//	R11          no node gets the target while the process knows a policy that cannot be followed
//	R12          while a process knows no policy, it gives no node the target; a release whose kept state was deleted does not
//	             continue by itself, as far as its process has known it
//	R14          a state in which only a count has grown is written at most every ten seconds; at rest nothing is written
//	R16          a wave has soaked no longer than the kept state says plus the time that its process has watched since
//	R18          no node gets the target that is known to be down
//	liveness     when people let the release through, or take it back, all nodes end as they say
//
// # Beside another controller
//
// In a scenario with "assists" the pods belong to a second model (builtin.go), that of the DaemonSet controller in Kubernetes. It
// creates and repairs them from the template that it has seen, late; it stands still at times; and, with RollingUpdate, it
// replaces outdated ones by itself. The model controller only lets outdated pods go (assist.go). These are checked:
//
//	what goes    nothing is created; what is deleted is an outdated pod of a DaemonSet with OnDelete, once the other controller
//	             has observed the template
//	R1           at a decision, the nodes that are known to have the target and those that get it are within the kept quota,
//	             whichever controller gave it; and in truth those that the model controller has given it are. The rest is a leak.
//	R4, R5, R9, R15, I6, I10, I14 and liveness, as above
//
// # In place
//
// In a scenario with "in-place" pods are changed where they run, from any revision to any other, and their kubelets report what a
// real one does (changes.go): Ready while the old containers end, Ready for new ones that are not, nothing at all for new ones
// that look like the old. They finish what they have begun, and report it under the newest change of the pod. They do not touch
// containers that already have the image that is asked for, notice changes late, cannot pull images, and restart containers that
// end. Admission has rewritten some pods. One case is left out, because nobody could recognize it: a container that restarts just
// before a change, without a probe, and whose new image takes longer to pull than the container is in doubt. These are checked,
// too:
//
//	P1, I4, R9   a pod counts only if the containers that it asks for truly serve
//	P2, P3       a pod that is changed runs, is of another revision, and is what its revision says; all its containers, and those
//	             that its kubelet is about to start, are of that revision
//	premise      a pod that is changed because it is not ready is not ready
//
// # What is like the engine, and what is not
//
// The model controller decides with package plan and writes with package delivery, as the engine does: what an unknown outcome
// means, names that are taken and deletes that miss a version are the code that ships. The rest (controller.go, index.go,
// apply.go) makes the same decisions as package engine: what is laid over the watch and for how long, back-off, and confirmation
// of deleted nodes. It has one DaemonSet, no revision history and no adoption.
//
// Every machine has its own clock: those of the kubelets, the node controller, the API server and the engine are up to ten
// minutes apart, and jump. Times that the API shows are by these clocks, in whole seconds, rounded down, as in Kubernetes. The
// checker judges what came first by the versions of the API, and how long a pod has been ready by the true time (truth.go).
//
// A request takes effect within delivery.PromptTimeout of being sent, or never; a write of a process that has met slow ones
// within delivery.SlowTimeout. Leases keep a new leader from starting before that, which is checked for every write.
//
// # What cannot be promised
//
// The fault "late" lets requests take effect after their error, and so perhaps after the live read that settled them. The event
// "overlap" lets two controllers run at the same time. Then a pod may be created beside another one, which is counted
// (Report.Doubles) and is not an error. In a release each of the two controllers is then judged by what it knows: it grants under
// a state that was kept (R4, R15), and the nodes that it knows to have the target are within the quota (R1). It may not know yet
// about nodes to which the other has just given the target. Everything else is checked as always: the budget on what a process
// can know, which does not include a late delete until a watch shows it; and the end, in which every node has exactly one pod
// again.
package sim

// Package sim is a cluster in memory, made to prove the DaemonSet algorithm
// safe: nodes, pods, kubelets, an API with watches, and controllers that run
// package plan over what those watches show. Everything in it can fail.
//
// A Scenario says what the cluster is, what happens to it and when, and how bad
// the network is. Run plays it on a simulated clock: there is no goroutine and
// no wall clock, and all that is left to chance is drawn from the scenario's
// seed. The same scenario always runs the same way.
//
// # What is checked
//
// The numbers are those of package plan. I1, I2, I7, I13 and I14 are checked on the
// true state of the API, whenever a write takes effect. I4, I5 and I6 are checked
// whenever a controller decides, on what it has watched, with its own writes
// laid over: which ones those are the checker knows from the API, not from the
// controller. When the events are over the cluster is healed, and then every
// node that should run a pod must have exactly one, available and current, no
// other node any; the status must be a recount of that (I9); and nothing more
// may be written, whatever heartbeats, bookmarks and new lists come (I10).
//
// # Releases in waves
//
// A scenario with a policy (Scenario.Policy) has its DaemonSet released by package rollout: the model controller keeps
// the state in the API before it does anything by it, reads it there when a term begins, and goes on from what is kept
// when an answer was lost or another process has written it (course.go, which takes the decisions of package engine's release.go). People pause, promote,
// abort, retry and edit or delete the policy in the middle, and ask for releases that are over or have not begun. What the stable revision
// needs may go, so that its new pods do not start. Then these are checked, too, by the numbers of package rollout:
//
//	R1, R4, R15  when a write begins by which a node gets the target, the state that the API keeps then is about this
//	             target and grants it; and when it takes effect, no more nodes have the target, by the true state of the
//	             API, than the highest quota that was kept. Nodes that got it before a policy came are not counted.
//	R5           nothing is granted while more nodes have failed than the policy allows
//	R8           what is asked of other releases changes nothing, and what is asked of one to come is told
//	R9           the budget holds over both revisions
//	R10          within an hour, by the engine's clock, no more nodes lose their pods to changes of labels and of the template's
//	             placement than the policy and people allow, whichever process deletes them
//	R12          while a process knows no policy, it gives no node the target
//	R14          what only counts on is kept once in ten seconds; at rest nothing is
//	R16          a wave has soaked no longer than was kept of it, and than its process has watched since
//	R18          no node gets the target that is known to be down
//	liveness     when people let the release through, or take it back, all nodes end as they say
//
// # Beside another controller
//
// In a scenario with "assists" the pods are those of a second model (builtin.go), of the DaemonSet controller in
// Kubernetes: it creates and repairs them from the template that it has seen, late, stands still at times, and, with RollingUpdate,
// replaces outdated ones by itself. The model controller only lets outdated pods go (assist.go). Then these are checked:
//
//	what goes    nothing is created; what is deleted is an outdated pod of a DaemonSet with OnDelete, once the other controller
//	             has observed the template
//	R1           at a decision, what is known to have the target and what gets it are within the quota that is kept, whoever
//	             gave it; and in truth the nodes that the model controller has given it are. The rest is a leak.
//	R4, R5, R9, R15, I6, I10, I14 and liveness, as above
//
// # In place
//
// In a scenario with "in-place" pods are changed where they run, from any revision to any other, and their kubelets say of that what
// a real one does (changes.go): Ready while the old containers end, Ready of new ones that are not, nothing at all for
// new ones that look like the old. They finish what they have begun, report it under the newest that the pod asks for, leave alone what
// asks for the image that they have, take notice late, cannot pull images, and start containers again that end. Admission has
// rewritten some pods. One thing is left out, as nobody could tell it: a container that ends and starts again just before a
// change, without a probe, whose new image takes longer to pull than it is doubted. Then these are checked, too:
//
//	P1, I4, R9   a pod counts only if the containers that it asks for serve in truth
//	P2, P3       what is changed runs, is of another revision, and is what its revision says; all its containers, and those that its
//	             kubelet is about to start, are of that revision
//	premise      what is changed for not being ready is not
//
// # What is like the engine, and what is not
//
// The model controller decides with package plan and writes with package delivery,
// as the engine does: what an unknown outcome means, names that are taken and
// deletes that miss a version are the code that ships. The rest (controller.go,
// index.go, apply.go) takes package engine's decisions: what is laid over the watch
// and for how long, back-off, and confirmation of deleted nodes. It has one
// DaemonSet, no revision history and no adoption.
//
// Every machine has a clock of its own: each kubelet, the node controller, the
// API server and the engine are up to ten minutes apart, and jump. Times that the
// API shows are by these clocks, in whole seconds, rounded down, as in Kubernetes.
// What came first is judged by the versions of the API, and how long a pod has been
// ready by the true time (truth.go).
//
// A request takes effect within delivery.PromptTimeout of being sent, or never; a write of a
// process that has met slow ones within delivery.SlowTimeout. Leases keep a new leader from
// starting before that, which is checked of every write.
//
// # What cannot be promised
//
// The fault "late" lets requests take effect after their error, and so perhaps
// after the live read that settled them; the event "overlap" lets two
// controllers run at once. Then a pod may be created beside another one, which
// is counted (Report.Doubles) and is not an error. In a release each of the two is then held to what it knows: it grants
// by a state that was kept (R4, R15), and the nodes of which it knows that they have the target are within the quota (R1); it may not know
// yet of those that the other has just given it. Everything else is checked as
// ever: the budget on what a process can know, which a delete that comes late
// is not part of until a watch shows it; and the end, in which every node has
// its one pod again.
package sim

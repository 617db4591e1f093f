// Package delivery gets one write to the API server done, or finds out what
// became of it. It sends nothing and has no clock: an Attempt says what to ask
// next, and is told what came back. So the engine and the simulator run the same
// code. The engine sends what it asks for; the simulator plays it.
//
//	for {
//		ask := attempt.Next()
//		if ask.Verb == delivery.Done {
//			return attempt.Outcome()
//		}
//		attempt.Answer(now, send(ask))
//	}
//
// # What holds
//
//   - D1: A create asks for a name that is a function of what it is for. Asked
//     twice, it makes one pod.
//   - D2: A pod that has the name counts as the one asked for only if it is ours
//     and the decision did not know it. The names of others are passed over.
//   - D3: After a write without an answer, nothing is said of the pod until a read
//     has shown it. Until then the attempt goes on, and only Stopped ends it.
//   - D4: A delete asks for one pod by its UID, and at most once without the
//     version that the decision rests on, where it rests on one.
//   - D5: A read that may be about something else tells nothing. Only Missing, the
//     server's own word on that name, means that a pod is gone.
package delivery

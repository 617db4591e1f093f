// Package delivery gets one write to the API server done, or finds out its outcome. It sends
// nothing and has no clock: an Attempt says which request to send next, and is given the answer.
// So the engine and the simulator run the same code. The engine sends the requests; the simulator
// plays them.
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
//   - D1: The name in a create is a function of its purpose. Sent twice, it makes one pod.
//   - D2: A pod that has the name counts as the requested one only if it is ours and the decision
//     did not know it. Names of other pods are skipped.
//   - D3: After a write without an answer, nothing is assumed about the pod until a read has
//     shown it. Until then the attempt continues, and only Stopped ends it.
//   - D4: A delete names one pod by its UID. If the decision rests on a version, at most one
//     request omits that version.
//   - D5: A read that may be about something else proves nothing. Only Missing, the server's own
//     answer for that name, means that a pod is gone.
package delivery

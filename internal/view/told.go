package view

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"everynode/internal/plan"
)

// The engine reports what it knows and no object shows (a write that was refused, a pause that has grown) in
// events of the DaemonSet. Here are their texts, and the code that parses them. A later reader knows only what
// they say.

// RefusedText returns the text of an event about a failed write on the node. verb is RefusedCreate,
// RefusedDelete, RefusedChange or RefusedClaim.
func RefusedText(verb, node string, err error) string {
	return fmt.Sprintf("Error %sing: node %s: %v", strings.TrimSuffix(verb, "e"), node, err)
}

// NotLastText returns the text of an event about a node whose pods do not last: how many were created again, who
// ended the last one ("by ...", or empty), and how long the engine waits before it creates the next one.
func NotLastText(node string, again int, by string, pause time.Duration) string {
	if by != "" {
		by = ", the last one " + by
	}
	return fmt.Sprintf("node %s: %d pods were deleted by others, or changed, soon after they were created%s; the next one is created in %s, or when the node or the template changes",
		node, again, by, pause.Round(time.Second))
}

var (
	refusedText = regexp.MustCompile(`(?s)^Error (creat|delet|chang|claim)ing: node (\S+): (.*)$`)
	notLastText = regexp.MustCompile(`^node (\S+): \d+ pods were deleted by others, or changed, soon after they were created(?:, the last one (.+))?; the next one is created in (\S+), or`)
	combined    = regexp.MustCompile(`^\(combined from similar events\): `) // of client-go's event correlator
)

// What may be refused.
const (
	RefusedCreate = "create"
	RefusedDelete = "delete"
	RefusedChange = "change"
	RefusedClaim  = "claim" // the patch that adopts a pod, labels it with a revision, or releases it
)

// Told is what the engine has reported about one node in an event.
type Told struct {
	Node   string
	Reason plan.Reason // WriteFailed or PodsDoNotLast
	// Refused is RefusedCreate, RefusedDelete, RefusedChange or RefusedClaim if a write failed, otherwise empty.
	Refused string
	// Detail is why it failed, or who deletes the pods.
	Detail string
	At     time.Time
	// Until is when the engine continues there; zero if it did not say.
	Until time.Time
}

// ReadTold parses an event of a DaemonSet. ok is false if it does not say what holds a node up.
func ReadTold(e *corev1.Event) (t Told, ok bool) {
	t.At = eventTime(e)
	text := combined.ReplaceAllString(e.Message, "")
	if m := refusedText.FindStringSubmatch(text); m != nil {
		t.Reason, t.Refused, t.Node, t.Detail = plan.WriteFailed, m[1], m[2], withoutAllowCommand(m[3])
		if t.Refused != RefusedClaim {
			t.Refused += "e"
		}
		return t, true
	}
	m := notLastText.FindStringSubmatch(text)
	if m == nil {
		return t, false
	}
	pause, err := time.ParseDuration(m[3])
	t.Reason, t.Node, t.Detail, t.Until = plan.PodsDoNotLast, m[1], m[2], t.At.Add(pause)
	return t, err == nil
}

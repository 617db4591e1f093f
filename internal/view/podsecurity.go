package view

import (
	"fmt"
	"regexp"
	"strings"
)

// refusedByStandard matches the API server's message for a pod that does not meet the Pod Security Standard
// of its namespace (k8s.io/pod-security-admission/admission/admission.go).
var refusedByStandard = regexp.MustCompile(`violates PodSecurity "(baseline|restricted):`)

// toAllow separates, in events, the refusal from the command that would allow the pod.
const toAllow = "; if its pods may do that: "

// AllowCommand returns the command that makes a namespace accept pods that its Pod Security Standard refuses.
// It asks for the next weaker standard and nothing more. It is empty if something else refused them.
func AllowCommand(namespace, refusal string) string {
	m := refusedByStandard.FindStringSubmatch(refusal)
	if m == nil {
		return ""
	}
	weaker := "privileged"
	if m[1] == "restricted" {
		weaker = "baseline"
	}
	return fmt.Sprintf("kubectl label namespace %s pod-security.kubernetes.io/enforce=%s --overwrite", namespace, weaker)
}

// WithAllowCommand adds it to the error of a create, for an event.
func WithAllowCommand(namespace string, err error) error {
	if command := AllowCommand(namespace, err.Error()); command != "" {
		return fmt.Errorf("%w%s%s", err, toAllow, command)
	}
	return err
}

// withoutAllowCommand returns the refusal without the command.
func withoutAllowCommand(text string) string {
	before, _, _ := strings.Cut(text, toAllow)
	return before
}

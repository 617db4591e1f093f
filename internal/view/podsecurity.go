package view

import (
	"fmt"
	"regexp"
	"strings"
)

// refusedByStandard is how the API server says that a pod does not meet the Pod Security
// Standard of its namespace (k8s.io/pod-security-admission/admission/admission.go).
var refusedByStandard = regexp.MustCompile(`violates PodSecurity "(baseline|restricted):`)

// toAllow is between what was refused and what would allow it, in events.
const toAllow = "; if its pods may do that: "

// AllowCommand is the command that has a namespace take pods which its Pod Security
// Standard refuses. It asks for the next weaker standard, and no more. It is empty
// for what was refused by anybody else.
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

// withoutAllowCommand is what was refused alone.
func withoutAllowCommand(text string) string {
	before, _, _ := strings.Cut(text, toAllow)
	return before
}

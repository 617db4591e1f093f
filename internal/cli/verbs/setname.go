package verbs

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"everynode/internal/cli/console"
)

// setName is a DaemonSet that the user named. Without a namespace it is in the current one, or in any.
type setName struct{ namespace, name string }

// namedAs is the part of help texts about setNames.
const namedAs = "A DaemonSet is named as ds/NAME, as NAMESPACE/NAME, or as NAME alone."

// readSetName reads a DaemonSet's name as all commands take it. namespace is that of --namespace, or "".
func readSetName(arg, namespace string) (setName, error) {
	before, name, qualified := strings.Cut(arg, "/")
	if !qualified {
		before, name = "ds", arg
	}
	if before == "" || name == "" || strings.Contains(name, "/") {
		return setName{}, console.Usage(fmt.Errorf("%q does not name a DaemonSet: give NAME, ds/NAME or NAMESPACE/NAME", arg))
	}
	switch {
	case isDaemonSets(before):
		return setName{namespace, name}, nil
	case namespace != "" && namespace != before:
		return setName{}, console.Usage(fmt.Errorf("%s: it is in another namespace than --namespace %s: give ds/NAME, or NAMESPACE/NAME without --namespace",
			arg, namespace))
	}
	return setName{before, name}, nil
}

// isDaemonSets reports whether the word before a slash is one for the kind, and not a namespace. One of them is what
// kubectl prints with -o name.
func isDaemonSets(word string) bool {
	switch word {
	case "ds", "daemonset", "daemonsets", "daemonset.apps", "daemonsets.apps":
		return true
	}
	return false
}

func (n setName) is(ds *appsv1.DaemonSet) bool {
	namespace := ds.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return ds.Name == n.name && (n.namespace == "" || n.namespace == namespace)
}

func (n setName) String() string {
	if n.namespace == "" {
		return n.name
	}
	return n.namespace + "/" + n.name
}

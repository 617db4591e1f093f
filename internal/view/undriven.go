package view

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Undriven is why a policy cannot say when outdated pods of a DaemonSet go while the DaemonSet controller of the cluster makes its pods.
type Undriven uint8

const (
	Driven    Undriven = iota // nothing: it can
	RolledOut                 // that controller replaces outdated pods by itself (RollingUpdate)
	NoneMayGo                 // no pod may go before its successor is there, which that controller does not do for OnDelete
)

// UndrivenBeside says which it is, by spec.updateStrategy alone. With OnDelete the API server stores rollingUpdate
// without checking it. A maxUnavailable that cannot be read counts as 0.
func UndrivenBeside(ds *appsv1.DaemonSet) Undriven {
	s := &ds.Spec.UpdateStrategy
	if s.Type != appsv1.OnDeleteDaemonSetStrategyType {
		return RolledOut
	}
	r := s.RollingUpdate
	if r == nil {
		return Driven // one at a time
	}
	says := r.MaxUnavailable != nil || amountOrNone(r.MaxSurge).Value > 0
	if says && amountOrNone(r.MaxUnavailable).Value == 0 {
		return NoneMayGo
	}
	return Driven
}

// Helm writes these annotations on what it has installed.
const (
	helmReleaseAnnotation   = "meta.helm.sh/release-name"
	helmNamespaceAnnotation = "meta.helm.sh/release-namespace"
)

// HowOnDelete returns how to make a DaemonSet OnDelete: in its manifest, with its chart if Helm installed it, or by a
// patch.
func HowOnDelete(ds *appsv1.DaemonSet) string {
	how := "set spec.updateStrategy.type to OnDelete in its manifest, and keep rollingUpdate.maxUnavailable there"
	release, in := ds.Annotations[helmReleaseAnnotation], ds.Annotations[helmNamespaceAnnotation]
	if in == "" {
		in = ds.Namespace
	}
	// Whoever may write the annotations must not be able to make up a command that somebody else types.
	if isName(release) && isName(in) {
		how += fmt.Sprintf("; it belongs to the Helm release %s, and many charts have a value for that: helm -n %s upgrade %s CHART --reset-then-reuse-values --set updateStrategy.type=OnDelete",
			release, in, release)
	}
	return how + fmt.Sprintf(`; or: kubectl -n %s patch daemonset %s -p '{"spec":{"updateStrategy":{"type":"OnDelete"}}}'`, ds.Namespace, ds.Name)
}

func isName(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }

package view

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Undriven is why a policy cannot control when outdated pods of a DaemonSet are deleted while the cluster's DaemonSet controller
// creates its pods.
type Undriven uint8

const (
	Driven    Undriven = iota // no reason: it can
	RolledOut                 // that controller replaces outdated pods by itself (RollingUpdate)
	NoneMayGo                 // no pod may be deleted before its successor is available, and that controller does not support this for OnDelete
)

// UndrivenBeside returns the reason, from spec.updateStrategy alone. With OnDelete the API server stores rollingUpdate without
// validating it. A maxUnavailable that cannot be parsed counts as 0.
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

// HowOnDelete returns how to make a DaemonSet OnDelete: in its manifest, with its chart if Helm installed it, or by a patch.
func HowOnDelete(ds *appsv1.DaemonSet) string {
	how := "set spec.updateStrategy.type to OnDelete in its manifest, and keep rollingUpdate.maxUnavailable there"
	release, in := ds.Annotations[helmReleaseAnnotation], ds.Annotations[helmNamespaceAnnotation]
	if in == "" {
		in = ds.Namespace
	}
	// People who may write the annotations must not be able to make up a command that somebody else types.
	if isName(release) && isName(in) {
		how += fmt.Sprintf("; it belongs to the Helm release %s, and many charts have a value for that: helm -n %s upgrade %s CHART --reset-then-reuse-values --set updateStrategy.type=OnDelete",
			release, in, release)
	}
	return how + fmt.Sprintf(`; or: kubectl -n %s patch daemonset %s -p '{"spec":{"updateStrategy":{"type":"OnDelete"}}}'`, ds.Namespace, ds.Name)
}

func isName(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }

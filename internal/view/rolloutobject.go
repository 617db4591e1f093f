package view

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// The kind of a DaemonSetRollout, of PolicyVersion, and the resource names of both kinds.
const (
	RolloutKind     = "DaemonSetRollout"
	RolloutResource = "daemonsetrollouts"
	PolicyResource  = "rolloutpolicies"
)

// ReleaseResource returns PolicyResource or RolloutResource in the form that clients need.
func ReleaseResource(name string) schema.GroupVersionResource {
	group, version, _ := strings.Cut(PolicyVersion, "/")
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

// DaemonSetRollout is the state of the releases of one DaemonSet. It has the namespace and the name of the DaemonSet,
// which owns it (NewRollout). Only people write the spec, only the engine writes the status:
//
//	spec:
//	  paused: false
//	  promote: {release: 3, wave: canary}   # or {release: 3, all: true}
//	  resume: {release: 3, stop: 1}
//	  abort: 3
//	  retry: 3
//	  plain: 3
//	  allowRemovals: {nodes: 300, before: "2026-11-28T18:00:00Z"}
//	status:
//	  observedGeneration: 4                 # of the spec that was heeded
//	  phase: Soaking                        # names of rollout.Phase and rollout.Reason
//	  reason: NotSoaked
//	  message: wave canary has soaked for 12m3s of 30m
//	  policy: {name: node-agents, generation: 7}
//	  release: 3                            # rollout.State from here on
//	  stable: 5d4c88
//	  target: 7c9f5b
//	  quota: 3
//	  wave: {name: canary, opened: "2026-11-26T09:00:00Z", soaked: 12m3s}
//	  nodes: {eligible: 5000, exposed: 3, well: 3}   # to here, and then only what people read
//	  guard: {held: 300}                    # rollout.Guard
//	  soak: 12m3s of 30m
//	  failures: [...]
//	  conditions: [...]                     # Ready, Reconciling, Stalled: as kstatus reads them
//
// RolloutRequests and RolloutState read it, RolloutStatus writes the status. If an object has no status, nothing is
// known about its DaemonSet yet.
type DaemonSetRollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              DaemonSetRolloutSpec   `json:"spec"`
	Status            DaemonSetRolloutStatus `json:"status,omitzero"`
}

// DaemonSetRolloutSpec is a rollout.Requests: each field but Paused names the release that it is about.
type DaemonSetRolloutSpec struct {
	Paused  bool             `json:"paused,omitempty"`
	Promote *PromoteRequest  `json:"promote,omitempty"`
	Resume  *ResumeRequest   `json:"resume,omitempty"`
	Abort   int              `json:"abort,omitempty"`
	Retry   int              `json:"retry,omitempty"`
	Plain   int              `json:"plain,omitempty"`
	Allow   *AllowedRemovals `json:"allowRemovals,omitempty"`
}

// PromoteRequest is a rollout.Promotion: of a wave, or of all remaining ones.
type PromoteRequest struct {
	Release int    `json:"release"`
	Wave    string `json:"wave,omitempty"`
	All     bool   `json:"all,omitempty"`
}

// ResumeRequest is a rollout.Resumption.
type ResumeRequest struct {
	Release int `json:"release"`
	Stop    int `json:"stop"`
}

// AllowedRemovals is a rollout.Allowance.
type AllowedRemovals struct {
	Nodes  int         `json:"nodes"`
	Before metav1.Time `json:"before"`
}

// DaemonSetRolloutStatus is a rollout.State, with additional fields for people.
type DaemonSetRolloutStatus struct {
	ObservedGeneration int64      `json:"observedGeneration,omitempty"`
	Phase              string     `json:"phase,omitempty"`
	Reason             string     `json:"reason,omitempty"`
	Message            string     `json:"message,omitempty"`
	Policy             *PolicyRef `json:"policy,omitempty"`

	Release   int          `json:"release"`
	Stable    string       `json:"stable,omitempty"`
	Target    string       `json:"target,omitempty"`
	Quota     int          `json:"quota,omitempty"`
	Wave      *RolloutWave `json:"wave,omitempty"`
	Stops     int          `json:"stops,omitempty"`
	Stopped   bool         `json:"stopped,omitempty"`
	Unsure    bool         `json:"unsure,omitempty"`
	Forgiven  int          `json:"forgiven,omitempty"`
	Back      bool         `json:"back,omitempty"`
	WhyBack   string       `json:"whyBack,omitempty"`
	Reverting bool         `json:"reverting,omitempty"`
	Ignored   string       `json:"ignored,omitempty"`

	Nodes RolloutNodes `json:"nodes,omitzero"`
	// Assists is rollout.Seen.Assists.
	Assists bool                `json:"assists,omitempty"`
	Guard   *RolloutGuardStatus `json:"guard,omitempty"`
	// Soak is for a printer column: how long the open wave has soaked, and of how much.
	Soak       string             `json:"soak,omitempty"`
	Failures   []RolloutFailure   `json:"failures,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RolloutWave is the open wave. Times are rounded down to the second: only what is written counts as watched.
type RolloutWave struct {
	Name   string          `json:"name,omitempty"`
	Group  string          `json:"group,omitempty"`
	Opened *metav1.Time    `json:"opened,omitempty"`
	Soaked metav1.Duration `json:"soaked,omitzero"`
}

// RolloutGuardStatus is a rollout.Guard.
type RolloutGuardStatus struct {
	Held   int            `json:"held,omitempty"`
	Taken  []RolloutTaken `json:"taken,omitempty"`
	Of     int            `json:"of,omitempty"`
	Used   int            `json:"used,omitempty"`
	Before *metav1.Time   `json:"before,omitempty"`
}

// RolloutTaken is a rollout.Taken.
type RolloutTaken struct {
	From  metav1.Time `json:"from"`
	Nodes int         `json:"nodes"`
}

// PolicyRef is the policy that a release follows, and its generation.
type PolicyRef struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation,omitempty"`
}

// RolloutNodes counts nodes as rollout.Seen does. Eligible is the number of nodes that should have a pod.
type RolloutNodes struct {
	Eligible int `json:"eligible"`
	Exposed  int `json:"exposed"`
	Well     int `json:"well"`
	UnderWay int `json:"underWay"`
	Failed   int `json:"failed"`
	Other    int `json:"other"`
	// Leaked is plan.Exposure.Leaked.
	Leaked int `json:"leaked,omitempty"`
}

// RolloutFailure is a node that has failed, and why.
type RolloutFailure struct {
	Node    string      `json:"node"`
	Reason  string      `json:"reason"`
	Message string      `json:"message,omitempty"`
	Since   metav1.Time `json:"since"`
}

// NewRollout returns the object for a DaemonSet that has none. Deleting the owner does not wait for it, so the engine
// does not need the right to change the owner's finalizers.
func NewRollout(ds *appsv1.DaemonSet) *DaemonSetRollout {
	controller := true
	return &DaemonSetRollout{
		TypeMeta: metav1.TypeMeta{APIVersion: PolicyVersion, Kind: RolloutKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: ds.Namespace, Name: ds.Name, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "DaemonSet", Name: ds.Name, UID: ds.UID, Controller: &controller}}},
	}
}

// IsOf reports whether the object is about the DaemonSet with that UID, and not about a deleted one of the same name.
// An object without an owner counts: people may create it before there is a release, and deleting a DaemonSet without
// its pods removes the owner.
func (o *DaemonSetRollout) IsOf(ds types.UID) bool {
	for _, owner := range o.OwnerReferences {
		if owner.Kind == "DaemonSet" && owner.UID != ds {
			return false
		}
	}
	return true
}

// short formats a duration without units that are zero: 30m, not 30m0s.
func short(d time.Duration) string {
	text := d.Truncate(time.Second).String()
	if n := len(text); n > 3 && text[n-3:] == "m0s" {
		text = text[:n-2]
	}
	if n := len(text); n > 3 && text[n-3:] == "h0m" {
		text = text[:n-2]
	}
	return text
}

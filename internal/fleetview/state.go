// Package fleetview defines what a server sends to the page of `everynode ui`: first a State, then a Change each time something
// is different. It has the values, their encoding, and the difference between two of them. A server sends them, a file records
// them for a replay, and the page's own types are generated from them.
package fleetview

// Version is the version of the format. A recording with another version is refused.
const Version = 1

// Pace is the minimum time between two States of a cluster, in milliseconds. Everything that has changed in between is one
// Change, which is smaller than two. TestSizes relies on it.
const Pace = 1000

// State is what is known about a fleet at one time. It is immutable, so that viewers may share one.
type State struct {
	// At is that time, in milliseconds since 1970, by the server's clock.
	At int64 `json:"at"`
	// Cluster names the cluster: the context's name, or the address of the API server.
	Cluster string `json:"cluster"`
	// Stale says since when and why the cluster cannot be seen; empty: it can.
	Stale string `json:"stale"`
	// Hidden says what is left out because the user may not read it; empty: nothing is.
	Hidden string `json:"hidden,omitempty"`
	// Reasons are the reasons that Cell.Reason is an index into.
	Reasons []Reason `json:"reasons"`
	// Nodes have a fixed order: a node keeps its place while it exists, and a free place has a node without a name.
	Nodes []Node `json:"nodes"`
	// Sets are the DaemonSets, sorted by namespace and name.
	Sets []*Set `json:"sets"`
}

// Reason is why a node is in its state: the reason's name in events and metrics, and a sentence.
type Reason struct {
	Name     string `json:"name"`
	Sentence string `json:"sentence"`
}

// Node is what the overview says about a node.
type Node struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
	Pool string `json:"pool,omitempty"`
	// Down is what is said about a node that is not Ready; Since is when that began (milliseconds since 1970).
	Down  string `json:"down,omitempty"`
	Since int64  `json:"since,omitempty"`
	// Held is a taint that keeps away pods that do not tolerate it; the first of several.
	Held string `json:"held,omitempty"`
}

// Set is a DaemonSet and what each node has of it.
type Set struct {
	Head     `json:"head"`
	Findings []Finding `json:"findings"`
	History  History   `json:"history"`
	// Cells has one cell for each of State.Nodes.
	Cells Cells `json:"cells"`
}

// Key names the set: namespace/name.
func (s *Set) Key() string { return s.Namespace + "/" + s.Name }

// Head is a DaemonSet as a whole.
type Head struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Revision is the hash of the current revision. Before are the hashes of other revisions that have pods, the most common
	// first.
	Revision string   `json:"revision"`
	Before   []string `json:"before,omitempty"`
	// Pods is how many nodes have a pod of each revision, by its hash.
	Pods map[string]int `json:"pods,omitempty"`
	// Phase is what is going on, in a few words; Stopped is why it does not continue by itself.
	Phase   string `json:"phase"`
	Stopped string `json:"stopped,omitempty"`
	// Strategy is how pods are replaced: "RollingUpdate" or "OnDelete".
	Strategy string   `json:"strategy"`
	Budget   *Budget  `json:"budget,omitempty"`
	Release  *Release `json:"release,omitempty"`
	Waves    []Wave   `json:"waves,omitempty"`
	// More is how many nodes need attention in addition to those of the findings.
	More int `json:"more,omitempty"`
}

// Budget is how many nodes an update may have without a pod, or with two, at a time, and how many it has now.
type Budget struct {
	MaxUnavailable int `json:"maxUnavailable"`
	MaxSurge       int `json:"maxSurge"`
	Used           int `json:"used"`
}

// Release is what the engine says about a release in waves that has not ended.
type Release struct {
	Number int `json:"number"`
	// Phase and Reason are names of package rollout; Message is a sentence.
	Phase    string `json:"phase"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	Policy   string `json:"policy,omitempty"`
	Stable   string `json:"stable"`
	Target   string `json:"target"`
	Wave     string `json:"wave,omitempty"` // the open one, with its group after a slash
	Quota    int    `json:"quota"`
	Eligible int    `json:"eligible"`
	Exposed  int    `json:"exposed"`
	Failed   int    `json:"failed"`
	// Soak says for how long the open wave has been watched, and how long it must be.
	Soak string `json:"soak,omitempty"`
	// Stands means that the release does not continue by itself, Paused that a person has paused it.
	Stands bool `json:"stands,omitempty"`
	Paused bool `json:"paused,omitempty"`
	// Held is how many nodes' pods the guard holds.
	Held int `json:"held,omitempty"`
}

// Wave is a step of the policy in force.
type Wave struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	// There is how many of them have the current revision, available.
	There    int  `json:"there"`
	Open     bool `json:"open,omitempty"`
	Approval bool `json:"approval,omitempty"`
	// Soak is how long all must be well before the next wave, in the format of time.Duration.
	Soak string `json:"soak,omitempty"`
}

// Finding is a node that needs attention, with the number of nodes that need it for the same reason.
type Finding struct {
	// ID identifies a finding within its set while it lasts.
	ID int `json:"id"`
	// State is a CellState, Reason an index into State.Reasons.
	State  int    `json:"state"`
	Reason int    `json:"reason"`
	Text   string `json:"text"`
	// Node is the first of these nodes, Nodes is how many there are.
	Node  string `json:"node"`
	Nodes int    `json:"nodes"`
	// Since is when that began on the first node, in milliseconds since 1970; zero: unknown.
	Since int64 `json:"since,omitempty"`
	// Log means that a container has run there and ended, so there is a log to read.
	Log bool `json:"log,omitempty"`
}

// History is what has happened.
type History struct {
	Revisions []Revision `json:"revisions"`
	// Moments are the latest ones, the newest first.
	Moments []Moment `json:"moments"`
}

// Revision is a template in the history.
type Revision struct {
	Number  int64    `json:"number"`
	Hash    string   `json:"hash"`
	Created int64    `json:"created"`
	Images  []string `json:"images,omitempty"`
	Cause   string   `json:"cause,omitempty"`
	// Is says whether a release uses it as stable, target, or both.
	Is string `json:"is,omitempty"`
}

// Moment is something that happened: its kind ("revision", "wave", "failure", "phase"), and what it was.
type Moment struct {
	At   int64  `json:"at"`
	Kind string `json:"kind"`
	Text string `json:"text"`
}

package fleetview

// What a page requests when somebody looks at details. It is not in the stream.

import "errors"

// ErrUnknown is the error for a question about something that does not exist, or no longer exists.
var ErrUnknown = errors.New("it is not in the fleet")

// NodeDetail is the details of one node.
type NodeDetail struct {
	Name    string `json:"name"`
	Created int64  `json:"created"`
	// Unschedulable means that the node is cordoned.
	Unschedulable bool        `json:"unschedulable,omitempty"`
	System        []string    `json:"system"` // reported by the kubelet: version, operating system, architecture, runtime
	Taints        []string    `json:"taints"`
	Conditions    []Condition `json:"conditions"`
	Rows          []Row       `json:"rows"`
	Events        []Event     `json:"events"`
	// Unread says what could not be read, and why; empty: nothing is missing.
	Unread string `json:"unread,omitempty"`
}

// Condition is a condition of a node.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Since   int64  `json:"since,omitempty"`
	// Bad means that the condition is not as it should be.
	Bad bool `json:"bad,omitempty"`
}

// Row is what `everynode why` says about one DaemonSet on the node.
type Row struct {
	Set      string   `json:"set"` // namespace/name
	Pod      string   `json:"pod,omitempty"`
	State    int      `json:"state"`
	Reason   string   `json:"reason"`
	Why      string   `json:"why"`
	Detail   string   `json:"detail,omitempty"`
	Since    int64    `json:"since,omitempty"`
	Change   string   `json:"change,omitempty"`
	Commands []string `json:"commands,omitempty"`
	// Log means that one of its containers has a log to read.
	Log bool `json:"log,omitempty"`
}

// Event is an event about an object.
type Event struct {
	At      int64  `json:"at"`
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	From    string `json:"from,omitempty"`
	Count   int    `json:"count,omitempty"`
}

// Log is the end of a container's log.
type Log struct {
	Pod       string `json:"pod"`
	Container string `json:"container"`
	// Previous means that it is from the previous run, which has ended.
	Previous bool     `json:"previous,omitempty"`
	Lines    []string `json:"lines"`
}

// Events are the events of a DaemonSet.
type Events struct {
	Events []Event `json:"events"`
}

// About is what a page must know about its server.
type About struct {
	Version int    `json:"version"`
	Program string `json:"program"` // the command that users type
	// Actions means that a release may be steered from the page.
	Actions bool `json:"actions"`
	// Replay is the name of the recording that is shown; empty: it is a live cluster.
	Replay string `json:"replay,omitempty"`
}

// Action is a request to change a release. Release and Target must be those that the page has shown, so that a
// user cannot confirm one thing and get another.
type Action struct {
	Verb    string `json:"verb"` // pause, resume, promote, abort
	Release int    `json:"release"`
	Target  string `json:"target"`
	Wave    string `json:"wave,omitempty"`
}

// Answer is the result of an Action.
type Answer struct {
	Said  string `json:"said,omitempty"`
	Error string `json:"error,omitempty"`
}

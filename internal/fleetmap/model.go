// Package fleetmap draws what each node of a fleet has of one DaemonSet: one sign per node, or one for
// several nodes if they do not fit. It turns a Model into lines. It knows nothing about clusters, terminals
// or the time, so that tests can compare a frame character by character.
package fleetmap

// State is what a node has of the DaemonSet. A cell with several nodes shows the greatest state, so the
// states are ordered from what may be left out to what must be seen.
type State uint8

// The states.
const (
	NotMeant State = iota // no pod should run there, and none does
	New                   // its pod of the current revision is available
	Old                   // its pod of an older revision is available
	Starting              // its pod of the current revision is on its way
	Waiting               // no pod serves there, and the next step is up to something else
	Down                  // the node is not Ready
	Failing               // its pod does not start, does not stay up, or cannot be made

	states = int(Failing) + 1
)

// look is how a state appears: a sign that is enough without colour, a word, and a colour.
type look struct {
	sign   byte
	name   string
	colour string // the code for a terminal (ECMA-48, Select Graphic Rendition); empty: the text's normal colour
}

func (s State) look() look {
	return [states]look{
		NotMeant: {'-', "not meant", "90"},
		New:      {'#', "new", "32"},
		Old:      {'.', "old", ""},
		Starting: {'+', "starting", "36"},
		Waiting:  {'o', "waiting", "33"},
		Down:     {'x', "down", "35"},
		Failing:  {'!', "failing", "1;31"},
	}[s]
}

// String returns the word for the state.
func (s State) String() string { return s.look().name }

// Model is what is drawn. Its texts may be anything: characters that a terminal would take as a command are
// drawn as question marks.
type Model struct {
	Set string // namespace/name
	// Revision is the hash of the current revision, Before are the hashes of other revisions that have pods.
	Revision string
	Before   []string
	Phase    string
	Zones    []Zone
	// Waves are the steps of a policy, if there is one.
	Waves []Wave
	// Rollout is what the controller says about the release; nil if it says nothing.
	Rollout *Rollout
	// Exceptions are the nodes that need attention, the most interesting first. More is the number of further
	// nodes that they neither name nor count.
	Exceptions []Exception
	More       int
	// Command is the command that shows everything that needs attention.
	Command string
	// Stale says since when and why the drawing may be out of date; empty: it is current.
	Stale string
	// Hidden says what is left out because the user may not read it; empty: nothing is.
	Hidden string
	// Unread says since when and why there is nothing to draw yet, besides Set; empty: there is.
	Unread string
}

// Zone is a row, or several rows below each other. Nodes are in the order in which a release reaches them.
type Zone struct {
	Name  string
	Nodes []State
}

// Wave is a step of a release: how many nodes it has, and how many of them have the current revision.
type Wave struct {
	Name         string
	Nodes, There int
}

// Rollout is what the controller says about a release in waves.
type Rollout struct {
	Phase, Reason          string
	Wave                   string
	Quota, Exposed, Failed int
	// Soak says for how long the open wave has been watched, and how long it must be; empty: it is not being
	// watched.
	Soak string
	// Stopped means that the release does not continue by itself.
	Stopped bool
}

// Exception is a node that needs attention, and the number of others that need it for the same reason.
type Exception struct {
	Node  string
	Same  int // number of others
	State State
	Since string // as it is drawn; empty if it is not known
	Text  string
}

// Counts returns how many nodes are in each state, by State.
func (m *Model) Counts() (counts [states]int) {
	for i := range m.Zones {
		for _, s := range m.Zones[i].Nodes {
			counts[s]++
		}
	}
	return counts
}

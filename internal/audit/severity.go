package audit

import "fmt"

// Severity is how much harm a finding can do.
type Severity uint8

// The severities, from bad to worse. The zero value is none of them.
const (
	// Low: a node loses its pod sooner than it has to, or an update proves less than it
	// could or takes longer than it has to.
	Low Severity = iota + 1
	// Medium: many nodes at once, but only after another mistake or on purpose; or the way
	// forward or back is blocked.
	Medium
	// High: one release or one edit reaches every node, and nothing stops it.
	High
)

// Severities returns all of them, the least first.
func Severities() []Severity { return []Severity{Low, Medium, High} }

// String is the severity's name in output and flags.
func (s Severity) String() string {
	switch s {
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	default:
		return fmt.Sprintf("Severity(%d)", uint8(s))
	}
}

// MarshalText returns String, for JSON and YAML.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

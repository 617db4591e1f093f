package fleetview

import (
	"encoding/json"
	"fmt"
	"strings"
)

// CellState is what a node has of a DaemonSet. Of several states the greatest is shown, so they are ordered from
// what may be left out to what must be seen. The values are those of fleetmap.State.
type CellState uint8

// The states.
const (
	NotMeant CellState = iota
	New
	Old
	Starting
	Waiting
	Down
	Failing
)

// CellStates returns the words for the states, indexed by CellState.
func CellStates() []string {
	return []string{"not meant", "new", "old", "starting", "waiting", "down", "failing"}
}

// Cell is one DaemonSet on one node.
type Cell struct {
	State CellState
	// Reason is an index into State.Reasons.
	Reason uint8
	// Wave is an index into Head.Waves. The last index that has a letter stands for all waves after it, too. NoWave:
	// none.
	Wave uint8
}

// digits are the letters in which a cell is written.
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"

// NoWave is the wave of a node that is in none. MaxReasons is the maximum number of reasons.
const (
	NoWave     = len(digits) - 1
	MaxReasons = len(digits)
	letters    = 3
)

// MarshalText returns three letters.
func (c Cell) MarshalText() ([]byte, error) {
	if int(c.State) >= len(digits) || int(c.Reason) >= MaxReasons || int(c.Wave) > NoWave {
		return nil, fmt.Errorf("state %d, reason %d and wave %d do not fit into letters", c.State, c.Reason, c.Wave)
	}
	return []byte{digits[c.State], digits[c.Reason], digits[c.Wave]}, nil
}

// UnmarshalText parses what MarshalText returns.
func (c *Cell) UnmarshalText(text []byte) error {
	if len(text) != letters {
		return fmt.Errorf("a cell has %d letters, not %q", letters, text)
	}
	var n [letters]int
	for i := range n {
		if n[i] = strings.IndexByte(digits, text[i]); n[i] < 0 {
			return fmt.Errorf("%q is not a letter of a cell", text[i])
		}
	}
	*c = Cell{CellState(n[0]), uint8(n[1]), uint8(n[2])}
	return nil
}

// Cells are written as one string, with three letters for each cell.
type Cells []Cell

// MarshalJSON writes them.
func (cells Cells) MarshalJSON() ([]byte, error) {
	text := make([]byte, 0, letters*len(cells)+2)
	text = append(text, '"')
	for _, c := range cells {
		three, err := c.MarshalText()
		if err != nil {
			return nil, err
		}
		text = append(text, three...)
	}
	return append(text, '"'), nil
}

// UnmarshalJSON parses what MarshalJSON returns.
func (cells *Cells) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("cells: %w", err)
	}
	if len(s)%letters != 0 {
		return fmt.Errorf("cells: %d letters are not a number of cells", len(s))
	}
	*cells = make(Cells, len(s)/letters)
	for i := range *cells {
		if err := (*cells)[i].UnmarshalText([]byte(s[letters*i : letters*i+letters])); err != nil {
			return fmt.Errorf("cell %d: %w", i, err)
		}
	}
	return nil
}

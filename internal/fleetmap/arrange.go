package fleetmap

import (
	"fmt"
	"slices"
	"sort"
)

// cell is a place on the map: the nodes with index from to to-1 of a zone.
type cell struct{ from, to int }

// block is the rows of one zone.
type block struct {
	zone *Zone
	rows [][]cell
}

// arrange puts every node into one cell, with the smallest number of nodes per cell with which all zones fit
// into the rows and columns. Both are at least 1.
func arrange(zones []Zone, columns, rows int) (blocks []block, perCell int) {
	zones = slices.DeleteFunc(slices.Clone(zones), func(z Zone) bool { return len(z.Nodes) == 0 })
	zones = fold(zones, rows)
	largest := 1
	for i := range zones {
		largest = max(largest, len(zones[i].Nodes))
	}
	// The rows that a zone takes never grow with the number of nodes per cell.
	perCell = 1 + sort.Search(largest-1, func(k int) bool { return rowsOf(zones, columns, k+1) <= rows })
	for i := range zones {
		b := block{zone: &zones[i]}
		for from := 0; from < len(zones[i].Nodes); from += perCell {
			if from%(perCell*columns) == 0 {
				b.rows = append(b.rows, nil)
			}
			last := &b.rows[len(b.rows)-1]
			*last = append(*last, cell{from, min(from+perCell, len(zones[i].Nodes))})
		}
		blocks = append(blocks, b)
	}
	return blocks, perCell
}

func rowsOf(zones []Zone, columns, perCell int) (rows int) {
	for i := range zones {
		rows += ceil(ceil(len(zones[i].Nodes), perCell), columns)
	}
	return rows
}

func ceil(a, b int) int { return (a + b - 1) / b }

// fold merges zones if there are too many of them, because each takes at least one row.
func fold(zones []Zone, rows int) []Zone {
	if len(zones) <= rows {
		return zones
	}
	rest := Zone{Name: fmt.Sprintf("%d more zones", len(zones)-rows+1)}
	for _, z := range zones[rows-1:] {
		rest.Nodes = append(rest.Nodes, z.Nodes...)
	}
	if rows == 1 {
		rest.Name = fmt.Sprintf("%d zones", len(zones))
	}
	return append(slices.Clone(zones[:rows-1]), rest)
}

// worst returns the state that a cell shows.
func (z *Zone) worst(c cell) State { return slices.Max(z.Nodes[c.from:c.to]) }

package console

import (
	"fmt"
	"strings"
)

// DidYouMean returns a question to put after an error about an unknown word:
// whether the user meant the known word that is most similar. It is "" if none
// is similar.
func DidYouMean(given string, known []string) string {
	best, least := "", max(len(given)/3, 1)+1
	for _, word := range known {
		if d := edits(strings.ToLower(given), strings.ToLower(word)); d < least {
			best, least = word, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// edits is how many letters must be inserted, deleted, changed or swapped with
// their neighbour to turn a into b.
func edits(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row
		row = make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before = last
	}
	return row[len(b)]
}

package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseRelease parses a line of a release: number N, stable SETTING... (see parseSetting), order NODE...,
// steps N..., quota N, grants, back, forgiven N, startWithin DURATION, restarts N. The stable revision equals
// Set except for what these lines say about it.
func parseRelease(in *Input, words []string) (err error) {
	if in.Release == nil {
		in.Release = &Release{Number: 1, Stable: in.Set, Ranks: map[string]int{}, StartWithin: 10 * time.Minute, Restarts: 3}
		in.Release.Stable.Hash, in.Release.Stable.Placement, in.Release.Stable.Generation = "", Placement{}, 0
	}
	r := in.Release
	n := 0
	if len(words) == 2 {
		n, _ = strconv.Atoi(words[1])
	}
	switch words[0] {
	case "number":
		r.Number = n
	case "stable":
		err = parseSetting(&r.Stable, words[1:])
	case "order":
		for i, node := range words[1:] {
			r.Ranks[node] = i
		}
	case "steps":
		for _, w := range words[1:] {
			n, err = strconv.Atoi(w)
			r.Steps = append(r.Steps, n)
		}
	case "quota":
		r.Quota = n
	case "grants":
		r.Grants = true
	case "back":
		r.Back = true
	case "forgiven":
		r.Forgiven = n
	case "startWithin":
		r.StartWithin, err = time.ParseDuration(words[1])
	case "restarts":
		r.Restarts = n
	default:
		err = fmt.Errorf("unknown word")
	}
	return err
}

// parseReached parses: NODE RELEASE.
func parseReached(in *Input, words []string) (err error) {
	in.Reached[words[0]], err = strconv.Atoi(words[1])
	return err
}

// parseRestarts parses the N of restarts=N.
func parseRestarts(s string) (uint8, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 8)
	return uint8(n), err
}

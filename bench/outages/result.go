package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what a scenario did to the fleet of one system. Times are those of a real fleet.
type result struct {
	Scenario string `json:"scenario"`
	System   string `json:"system"`
	// Exposed is how many nodes ever had a pod of a bad version before somebody intervened, and Before how many of them
	// had it before anything was wrong. Most is how many had no working pod at the same time.
	Exposed int `json:"nodesExposed"`
	Before  int `json:"nodesExposedBefore,omitempty"`
	Most    int `json:"mostNodesWithoutWorkingPod"`
	// Stopped is the time until no further node was reached, counted from when it went wrong. All: there was no further
	// node. Otherwise it is, for ours, when the release stopped, and for Kubernetes' controller, which never stops one,
	// when it last created or deleted a pod. GoesOn: neither was the case during the observation.
	Stopped  time.Duration `json:"stoppedNanoseconds"`
	All      bool          `json:"reachedAll,omitempty"`
	GoesOn   bool          `json:"notStopped,omitempty"`
	Observed time.Duration `json:"observedNanoseconds"`
	// Spread is the time until the last node got a bad pod, and LastReplaced the time until a pod was last created or
	// deleted.
	Spread       time.Duration `json:"spreadNanoseconds"`
	LastReplaced time.Duration `json:"lastReplacedNanoseconds"`
	// Phase is the phase of our release when somebody intervened, and HaltedBy why it reached no further node.
	Phase    string `json:"phase,omitempty"`
	HaltedBy string `json:"haltedBy,omitempty"`
	// By is what was done: abort, template, label, or dependency, which comes back by itself.
	By       string        `json:"takenBackBy"`
	Recovery time.Duration `json:"recoveryNanoseconds"`
	// Never is whether the fleet was still not well after recoveryTime. Left is how many nodes had no working pod
	// then, LeftBad how many pods were of bad versions.
	Never   bool `json:"notRecovered,omitempty"`
	Left    int  `json:"leftWithoutWorkingPod,omitempty"`
	LeftBad int  `json:"leftBadPods,omitempty"`
}

// String returns a line about the result, to show progress.
func (r *result) String() string {
	how := ""
	if why := cmp.Or(r.HaltedBy, r.Phase); why != "" {
		how = " (" + why + ")"
	}
	return fmt.Sprintf("%s exposed, at most %d without a working pod, stopped: %s%s; well %s by %s", r.exposed(), r.Most, r.stopped(), how, r.recovery(), r.By)
}

// exposed returns the number of exposed nodes, and of those that were so before anything was wrong; a dash if there are
// none.
func (r *result) exposed() string {
	switch {
	case r.Exposed == 0:
		return "-"
	case r.Before > 0:
		return fmt.Sprintf("%d (%d before)", r.Exposed, r.Before)
	}
	return fmt.Sprint(r.Exposed)
}

func (r *result) recovery() string {
	if r.Never {
		return fmt.Sprintf("not within %s: %d nodes without, %d bad pods", minutes(recoveryTime), r.Left, r.LeftBad)
	}
	return minutes(r.Recovery)
}

// minutes formats a time for people: 40 s, 7.5 min.
func minutes(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Minutes()), ".0") + " min"
}

// results are the results of a whole measurement.
type results struct {
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`
	CPUs     int       `json:"cpus"`
	Memory   uint64    `json:"memoryBytes"`
	Versions string    `json:"kubernetes"`
	Nodes    int       `json:"nodes"`
	Scale    float64   `json:"timeScale"`
	Results  []*result `json:"results"`
}

func (r *results) add(one *result) { r.Results = append(r.Results, one) }

// merge merges the results of several measurements. They must have been measured with the same settings.
func merge(parts []*results) (*results, error) {
	all := *parts[0]
	all.Seconds, all.Results = 0, nil
	for _, p := range parts {
		if p.setting() != all.setting() {
			return nil, fmt.Errorf("the results were not measured alike: %s; and %s", all.setting(), p.setting())
		}
		all.Seconds += p.Seconds
		all.Results = append(all.Results, p.Results...)
	}
	return &all, nil
}

func (r *results) of(scenario, system string) *result {
	for _, one := range r.Results {
		if one.Scenario == scenario && one.System == system {
			return one
		}
	}
	return nil
}

// formats returns the output formats, by the name for -o.
func formats() map[string]func(io.Writer, *results) error {
	return map[string]func(io.Writer, *results) error{"table": printTable, "markdown": printMarkdown, "json": printJSON}
}

func printJSON(w io.Writer, r *results) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// line returns a table line: the scenario, and what it did to both systems.
func (r *results) line(s scenario) []string {
	cells := []string{s.Name}
	for _, figure := range []func(*result) string{
		(*result).exposed,
		func(one *result) string { return fmt.Sprint(one.Most) },
		(*result).stopped,
		(*result).recovery,
	} {
		for _, system := range systemNames() {
			if one := r.of(s.Name, system); one != nil {
				cells = append(cells, figure(one))
			} else {
				cells = append(cells, "")
			}
		}
	}
	return cells
}

func (r *results) has(s scenario) bool {
	return r.of(s.Name, everynode) != nil || r.of(s.Name, upstream) != nil
}

// setting describes how the results were measured.
func (r *results) setting() string {
	return fmt.Sprintf("%d nodes, maxUnavailable 10%%, Kubernetes %s, %d processors, %.0f GB; a minute of the fleet lasts %.3g s; %s",
		r.Nodes, r.Versions, r.CPUs, float64(r.Memory)/1e9, 60/r.Scale, r.Started.Format("2006-01-02"))
}

func printTable(w io.Writer, r *results) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n\n\tnodes exposed\t\tmost without a pod\t\tstopped after\t\twell again after\n\tours\tKubernetes'\tours\tKubernetes'\tours\tKubernetes'\tours\tKubernetes'\n", r.setting())
	for _, s := range scenarios() {
		if r.has(s) {
			fmt.Fprintln(t, strings.Join(r.line(s), "\t"))
		}
	}
	return t.Flush()
}

// printMarkdown prints the table in docs/safe-releases.md.
func printMarkdown(w io.Writer, r *results) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n| | nodes exposed | | without a working pod | | stopped after | | well again after | |\n|---|---|---|---|---|---|---|---|---|\n", r.setting())
	fmt.Fprint(&b, "| the version, or what happens | ours | K8s | ours | K8s | ours | K8s | ours | K8s |\n")
	notes := ""
	for _, s := range scenarios() {
		if !r.has(s) {
			continue
		}
		cells := r.line(s)
		cells[0] = fmt.Sprintf("`%s`: %s", s.Name, s.Title)
		for _, from := range s.Sources {
			cells[0] += fmt.Sprintf(" ([%s](%s))", from.What, from.URL)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		if s.Note != "" {
			notes += fmt.Sprintf("- `%s`: %s\n", s.Name, s.Note)
		}
	}
	fmt.Fprint(&b, "\n", notes)
	_, err := io.WriteString(w, b.String())
	return err
}

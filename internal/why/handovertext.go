package why

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"everynode/internal/view"
)

// ErrWouldMove is what NotYet returns if another controller would move pods.
var ErrWouldMove = errors.New("pods would move under Kubernetes' controller; end the releases first (everynode rollout plain, abort, or a revert of the template), " +
	"revert the edits that the guard holds or allow them, and check again")

// ErrWouldUpdate is what it returns if pods would move once a manifest is applied, because nothing makes that manifest
// OnDelete anymore.
var ErrWouldUpdate = errors.New("outdated pods would go, all of them when a manifest with RollingUpdate is applied next, because nothing makes it OnDelete any more; " +
	"finish the releases, revert their templates, or write updateStrategy.type: OnDelete into the manifests and remove everynode without this check (helm uninstall --no-hooks)")

// NotYet returns why the engine should not be removed yet; nil: it may be.
func NotYet(all []Handover) error {
	var err error
	for i := range all {
		switch h := &all[i]; {
		case h.Moves() && !h.WhenApplied:
			return ErrWouldMove
		case h.Moves():
			err = ErrWouldUpdate
		}
	}
	return err
}

// PrintHandovers writes for people what would happen.
func PrintHandovers(out io.Writer, all []Handover) error {
	var left []string
	w, rows := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0), 0
	for i := range all {
		h := &all[i]
		if h.NobodyUpdates {
			left = append(left, h.Namespace+"/"+h.Name)
		}
		if h.NobodyUpdates && !h.Moves() {
			continue
		}
		if rows++; rows == 1 {
			fmt.Fprintln(w, "DAEMONSET\tRELEASE\tWOULD UPDATE\tAT A TIME\tWOULD REMOVE\tWOULD ADD")
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%d\t%d\t%d\t%d\n", h.Namespace, h.Name, cmp.Or(h.Phase, "-"), h.Updates, h.AtATime, h.Removals, h.Additions)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case len(left) > 0 && rows == 0:
		fmt.Fprintln(out, "No pod would move.")
	case rows == 0:
		fmt.Fprintln(out, "No pod would move: no release is under way, and the guard holds nothing.")
	}
	for i := range all {
		if h := &all[i]; h.Because != "" && h.Moves() {
			fmt.Fprintf(out, "%s/%s: %s.\n", h.Namespace, h.Name, h.Because)
		}
	}
	if len(left) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "Nobody would update these any more, as they are OnDelete: %s. To give one back to Kubernetes' controller, "+
		"set its updateStrategy.type to RollingUpdate (while the admission policy everynode-on-delete is there, take off its annotation %s in the same write): outdated pods are then replaced at once.\n", strings.Join(left, ", "), view.PolicyAnnotation)
	return err
}

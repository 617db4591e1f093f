package why

import (
	"fmt"
	"strings"

	"everynode/internal/plan"
	"everynode/internal/view"
)

// commands returns what to type to see more about what holds the row up, or to resolve
// it.
func (s *snapshot) commands(ds *daemonSet, r *Row) []string {
	set := "daemonset/" + ds.Name + " -n " + ds.Namespace
	switch r.Reason {
	case plan.BudgetSpent.String():
		if len(r.BudgetHeldBy) > 0 {
			return []string{fmt.Sprintf("everynode why %s %s -n %s", r.BudgetHeldBy[0], ds.Name, ds.Namespace)}
		}
	case plan.AwaitsWave.String(), plan.HeldByGuard.String():
		return []string{fmt.Sprintf("everynode rollout status ds/%s -n %s", ds.Name, ds.Namespace)}
	case plan.WaitingForDeletion.String():
		return []string{fmt.Sprintf("kubectl delete pod -n %s %s", ds.Namespace, r.Pod)}
	case plan.WriteFailed.String(), plan.PodsDoNotLast.String():
		if allow := view.AllowCommand(ds.Namespace, r.Detail); allow != "" {
			return []string{allow}
		}
		return []string{"kubectl describe " + set}
	case plan.TaintNotTolerated.String(), plan.TaintKeepsPod.String(), plan.TaintEvicts.String():
		return []string{fmt.Sprintf("kubectl taint node %s %s-", r.Node, r.Detail)}
	case plan.NotSelected.String():
		return []string{fmt.Sprintf("kubectl label node %s %s --overwrite", r.Node, r.Detail)}
	case plan.WaitingForScheduler.String():
		if p := s.unbound(r.Node); p != nil {
			return []string{fmt.Sprintf("kubectl describe pod -n %s %s", ds.Namespace, p.Name)}
		}
	}
	if r.Cause == nil {
		return nil
	}
	return s.causeCommands(set, ds.Namespace, r.Cause)
}

// causeCommands returns the commands for a pod that is not available.
func (s *snapshot) causeCommands(set, namespace string, c *Cause) []string {
	see := fmt.Sprintf("kubectl describe pod -n %s %s", namespace, c.Pod)
	switch {
	case c.Reason == "NodeNotReady":
		return nil
	case c.LastEnd != nil && c.Container != "" && !c.MissesImage():
		see = fmt.Sprintf("kubectl logs -n %s %s -c %s", namespace, c.Pod, c.Container)
		if c.EndedBefore() {
			see += " --previous"
		}
	case c.Container != "" && (c.Reason == "Unhealthy" || c.Reason == view.NotReady || c.Reason == view.NotStarted):
		see = fmt.Sprintf("kubectl logs -n %s %s -c %s", namespace, c.Pod, c.Container)
	}
	if s.previous {
		return []string{see, "kubectl rollout undo " + set}
	}
	return []string{see}
}

// holdersText names the nodes that hold the budget.
func holdersText(r *Row) string {
	text := strings.Join(r.BudgetHeldBy, ", ")
	if more := r.BudgetHolders - len(r.BudgetHeldBy); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

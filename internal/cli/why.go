package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// whyFlags are the flags of `why`.
type whyFlags struct {
	kubeconfig, namespace, output string
}

func (a *app) whyCommand() *cobra.Command {
	f := whyFlags{}
	c := &cobra.Command{
		Use:   "why NODE [DAEMONSET] | daemonset/NAME",
		Short: "Say why a node has a DaemonSet's pod, or has none",
		Long: `Say, for each DaemonSet on a node or for each node of a DaemonSet, what runs there or
why nothing does, since when, and (with -o wide) what would change it. It asks the same
algorithm that the engine runs, with what the API server says now and what the engine has
told in events, and changes nothing.`,
		Example: `  everynode why node-2                      # every DaemonSet, on this node
  everynode why node-2 audit-agent
  everynode why daemonset/audit-agent -o wide
  everynode why node-2 -n kube-system -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := newQuestion(args, f.namespace)
			if err != nil {
				return err
			}
			client, err := a.whyClient(f.kubeconfig)
			if err != nil {
				return err
			}
			rows, err := answer(c.Context(), client, q, time.Now())
			if err != nil {
				return err
			}
			return a.printWhy(f.output, rows)
		},
	}
	a.dataDirFlag(c)
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "cluster to ask (default: the one of this machine)")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "namespace of the DaemonSets (default: all for a node, \"default\" for a DaemonSet)")
	c.Flags().StringVarP(&f.output, "output", "o", "", `"wide", "json", or nothing for the short table`)
	return c
}

// question is what is asked: about one node, one DaemonSet, or both.
type question struct {
	node, set, namespace string
}

func newQuestion(args []string, namespace string) (question, error) {
	q := question{namespace: namespace}
	kind, name, typed := strings.Cut(args[0], "/")
	switch {
	case !typed:
		q.node = args[0]
		if len(args) == 2 {
			q.set = strings.TrimPrefix(strings.TrimPrefix(args[1], "daemonset/"), "ds/")
		}
	case len(args) == 2:
		return q, usageError{fmt.Errorf("%s %s: give NODE [DAEMONSET], or daemonset/NAME alone", args[0], args[1])}
	case kind == "daemonset" || kind == "daemonsets" || kind == "ds":
		q.set = name
	case kind == "node" || kind == "nodes":
		q.node = name
	default:
		return q, usageError{fmt.Errorf("%s: nothing is known of a %s; ask for a node or for daemonset/NAME", args[0], kind)}
	}
	if q.set != "" && q.namespace == "" {
		q.namespace = metav1.NamespaceDefault
	}
	return q, nil
}

func (a *app) whyClient(kubeconfig string) (kubernetes.Interface, error) {
	if kubeconfig == "" {
		return a.adminClient()
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("%s is no kubeconfig: %w", kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}

// whyRow is the answer for one DaemonSet on one node.
type whyRow struct {
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	DaemonSet string `json:"daemonSet"`
	Pod       string `json:"pod,omitempty"`
	Reason    string `json:"reason"`
	Detail    string `json:"detail,omitempty"`
	// Since is when the pod came into this state, where that is known.
	Since  *time.Time `json:"since,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
	Why    string     `json:"why"`
	Change string     `json:"change,omitempty"`

	creates, deletes bool // what is to be written on the node
}

func (a *app) printWhy(output string, rows []whyRow) error {
	if output == "wide" {
		return a.whyTable(rows, "WHY", "WHAT WOULD CHANGE IT")
	}
	return a.print(output, rows, func() error { return a.whyTable(rows) })
}

func (a *app) whyTable(rows []whyRow, more ...string) error {
	t := newTable(a.out, append([]string{"NODE", "DAEMONSET", "POD", "REASON", "DETAIL", "SINCE"}, more...)...)
	for _, r := range rows {
		cells := []string{r.Node, r.Namespace + "/" + r.DaemonSet, orNone(r.Pod), r.Reason, orNone(r.Detail), ago(r.Since)}
		if len(more) > 0 {
			cells = append(cells, r.Why, orNone(r.Change))
		}
		t.row(cells...)
	}
	return t.flush()
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

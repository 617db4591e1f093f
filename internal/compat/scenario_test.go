package compat

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// scenario is a cluster, a DaemonSet and what happens to them, generated from a
// seed.
type scenario struct {
	seed  uint64
	nodes []func(*corev1.Node)
	set   *appsv1.DaemonSet
	steps []step
}

// step is one thing that happens.
type step struct {
	name string
	do   func(l *lab)
	// stuck is whether the step begins an update that does not finish.
	stuck bool
	// node is whether the step changes a node. Upstream may then leave an old
	// status until a pod or the DaemonSet changes: "Status after a node has
	// changed".
	node bool
}

// writer generates a scenario. It keeps the state that the steps need to make
// sense: which nodes exist, and which working templates there were.
type writer struct {
	*rand.Rand
	nodes     []string
	next      int // number of the next node
	version   int // of the image
	templates []corev1.PodTemplateSpec
	stuck     bool
	onDelete  bool
}

func write(seed uint64, steps int) scenario {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 1)), version: 1}
	s := scenario{seed: seed}
	for range 2 + w.IntN(4) {
		w.nodes = append(w.nodes, w.nodeName())
		s.nodes = append(s.nodes, w.node())
	}
	s.set = agent(w.daemonSet()...)
	w.templates = append(w.templates, *s.set.Spec.Template.DeepCopy())
	for range steps {
		s.steps = append(s.steps, w.step())
	}
	return s
}

func (w *writer) nodeName() string {
	w.next++
	return fmt.Sprintf("n%d", w.next)
}

func pick[T any](w *writer, of ...T) T { return of[w.IntN(len(of))] }

func (w *writer) chance(percent int) bool { return w.IntN(100) < percent }

func (w *writer) node() func(*corev1.Node) {
	disk, taint := pick(w, "ssd", "ssd", "hdd", ""), w.chance(20)
	kind := w.taint()
	return func(n *corev1.Node) {
		if disk != "" {
			n.Labels["disk"] = disk
		}
		if taint {
			n.Spec.Taints = []corev1.Taint{kind}
		}
	}
}

func (w *writer) taint() corev1.Taint {
	return corev1.Taint{Key: pick(w, "dedicated", "gpu"), Value: pick(w, "", "a"),
		Effect: pick(w, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule)}
}

func (w *writer) daemonSet() []func(*appsv1.DaemonSet) {
	// A limit of 1 is left out: it is random with upstream which of several
	// revisions that still have pods loses them first, and is then deleted.
	limit := pick[int32](w, 0, 2, 10)
	edits := []func(*appsv1.DaemonSet){w.place(), func(ds *appsv1.DaemonSet) { ds.Spec.RevisionHistoryLimit = &limit }}
	switch w.IntN(6) {
	case 0:
		w.onDelete = true
		edits = append(edits, func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType })
	case 1, 2:
		edits = append(edits, rolling(0, 1+w.IntN(2)))
	case 3:
		share := intstr.FromString(pick(w, "10%", "34%", "50%", "100%"))
		edits = append(edits, rolling(1, 0), func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &share })
	default:
		edits = append(edits, rolling(1+w.IntN(3), 0))
	}
	return edits
}

// place changes which nodes the template lets pods run on.
func (w *writer) place() func(*appsv1.DaemonSet) {
	selector, affinity, tolerates := w.chance(25), w.chance(35), w.chance(35)
	operator := pick(w, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist)
	effect := pick(w, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
	return func(ds *appsv1.DaemonSet) {
		spec := &ds.Spec.Template.Spec
		spec.NodeSelector, spec.Affinity, spec.Tolerations = nil, nil, nil
		if selector {
			spec.NodeSelector = map[string]string{"disk": "ssd"}
		}
		if affinity {
			r := corev1.NodeSelectorRequirement{Key: "disk", Operator: operator}
			if operator == corev1.NodeSelectorOpIn || operator == corev1.NodeSelectorOpNotIn {
				r.Values = []string{"ssd"}
			}
			spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{r}}, {MatchFields: []corev1.NodeSelectorRequirement{
					{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}}},
			}}}
		}
		if tolerates {
			spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists, Effect: effect}}
		}
	}
}

// step generates one step. After a stuck update the next step repairs it.
func (w *writer) step() step {
	if w.stuck {
		w.stuck = false
		return pick(w, w.update, w.rollback)()
	}
	kinds := []func() step{w.update, w.update, w.rollback, w.move, w.label, w.label, w.taints, w.taints, w.cordon,
		w.join, w.leave, w.deletePod, w.deletePod, w.failPod, w.orphan, w.lose, w.annotate}
	if !w.onDelete {
		kinds = append(kinds, w.breakIt, w.breakIt)
	}
	return pick(w, kinds...)()
}

// template returns a step that gives the DaemonSet a new template.
func (w *writer) template(name string, edit func(*appsv1.DaemonSet)) step {
	return step{name: name, do: func(l *lab) {
		l.nextSecond()
		l.edit(edit)
		l.observed()
	}}
}

func (w *writer) remember(edit func(*appsv1.DaemonSet)) {
	ds := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: *w.templates[len(w.templates)-1].DeepCopy()}}
	edit(ds)
	w.templates = append(w.templates, ds.Spec.Template)
}

func (w *writer) update() step {
	w.version++
	edit := image(fmt.Sprintf("agent:%d", w.version))
	w.remember(edit)
	return w.template(fmt.Sprintf("image agent:%d", w.version), edit)
}

// rollback does what `kubectl rollout undo` does.
func (w *writer) rollback() step {
	i := w.IntN(len(w.templates))
	back := w.templates[i].DeepCopy()
	w.templates = append(w.templates, *back)
	return w.template(fmt.Sprintf("back to template %d", i), func(ds *appsv1.DaemonSet) { back.DeepCopyInto(&ds.Spec.Template) })
}

func (w *writer) move() step {
	edit := w.place()
	w.remember(edit)
	return w.template("placement", edit)
}

// breakIt rolls out an image that never becomes ready.
func (w *writer) breakIt() step {
	w.stuck = true
	w.version++
	edit := image(fmt.Sprintf("broken:%d", w.version))
	s := w.template(fmt.Sprintf("image broken:%d", w.version), edit)
	s.stuck = true
	return s
}

// brokenStays keeps pods with a broken image from becoming ready.
func brokenStays(k *kubelet) {
	k.phase = func(p *corev1.Pod) corev1.PodPhase {
		if strings.HasPrefix(p.Spec.Containers[0].Image, "broken:") {
			return corev1.PodPending
		}
		return corev1.PodRunning
	}
}

func (w *writer) label() step {
	node, disk := pick(w, w.nodes...), pick(w, "ssd", "hdd", "")
	return step{name: fmt.Sprintf("%s disk=%s", node, disk), node: true, do: func(l *lab) {
		l.editNode(node, func(n *corev1.Node) {
			delete(n.Labels, "disk")
			if disk != "" {
				n.Labels["disk"] = disk
			}
		})
	}}
}

func (w *writer) taints() step {
	node, taint, off := pick(w, w.nodes...), w.taint(), w.chance(40)
	if off {
		return step{name: node + " without taints", node: true, do: func(l *lab) {
			l.editNode(node, func(n *corev1.Node) { n.Spec.Taints = nil })
		}}
	}
	return step{name: node + " taint " + taint.ToString(), node: true, do: func(l *lab) {
		l.editNode(node, func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{taint} })
	}}
}

func (w *writer) cordon() step {
	node := pick(w, w.nodes...)
	return step{name: "cordon " + node, node: true, do: func(l *lab) {
		l.editNode(node, func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
			n.Spec.Taints = slices.CompactFunc(n.Spec.Taints, func(a, b corev1.Taint) bool { return a.MatchTaint(&b) })
		})
	}}
}

func (w *writer) join() step {
	name, change := w.nodeName(), w.node()
	w.nodes = append(w.nodes, name)
	return step{name: name + " joins", node: true, do: func(l *lab) { l.addNode(name, change) }}
}

func (w *writer) leave() step {
	if len(w.nodes) == 1 {
		return w.join()
	}
	i := w.IntN(len(w.nodes))
	name := w.nodes[i]
	w.nodes = slices.Delete(w.nodes, i, i+1)
	return step{name: name + " leaves", node: true, do: func(l *lab) { l.removeNode(name) }}
}

// onPod returns a step about the pod of a node, if it has one.
func (w *writer) onPod(name string, do func(l *lab, p *corev1.Pod)) step {
	node := pick(w, w.nodes...)
	return step{name: name + " on " + node, do: func(l *lab) {
		for _, p := range l.pods() {
			if target(&p) == node && metav1.GetControllerOf(&p) != nil {
				do(l, &p)
				return
			}
		}
	}}
}

func (w *writer) deletePod() step {
	return w.onPod("pod deleted", func(l *lab, p *corev1.Pod) {
		l.do(l.client.CoreV1().Pods(namespace).Delete(l.t.Context(), p.Name, metav1.DeleteOptions{}))
	})
}

func (w *writer) failPod() step {
	return w.onPod("pod fails", func(l *lab, p *corev1.Pod) {
		l.do(setReady(l.t.Context(), l.client, p, corev1.PodFailed, corev1.ConditionFalse))
		l.until("the failed pod is replaced", func() bool {
			return !slices.ContainsFunc(l.pods(), func(q corev1.Pod) bool { return q.UID == p.UID })
		})
	})
}

// orphan creates a pod by hand that the DaemonSet selects, bound to a node. The
// pod is adopted, and is outdated.
func (w *writer) orphan() step {
	node := pick(w, w.nodes...)
	return step{name: "an orphan on " + node, do: func(l *lab) {
		_, err := l.client.CoreV1().Pods(namespace).Create(l.t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "orphan-", Labels: map[string]string{"app": "agent"}},
			Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "agent", Image: "orphan:1"}},
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		}, metav1.CreateOptions{})
		l.do(err)
	}}
}

// lose removes a pod's label. The pod is released and keeps running.
func (w *writer) lose() step {
	return w.onPod("pod loses its label", func(l *lab, p *corev1.Pod) {
		_, err := l.client.CoreV1().Pods(namespace).Patch(l.t.Context(), p.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"lost"}}}`), metav1.PatchOptions{})
		l.do(err)
	})
}

func (w *writer) annotate() step {
	cause := fmt.Sprintf("cause %d", w.IntN(1000))
	return step{name: "change cause", do: func(l *lab) {
		l.edit(func(ds *appsv1.DaemonSet) { ds.Annotations["kubernetes.io/change-cause"] = cause })
	}}
}

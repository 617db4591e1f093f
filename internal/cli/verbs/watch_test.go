package verbs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"everynode/internal/cli/console"
	"everynode/internal/fleetmap"
	"everynode/internal/lookout"
	"everynode/internal/view"
)

// watched is a cluster with DaemonSet apps/agent on two nodes. One has an old pod, which update makes a new one once
// the pods are watched.
func watched(t *testing.T) (client *fake.Clientset, update func()) {
	t.Helper()
	client, late, hash := cluster(t)
	var once sync.Once
	watches := make(chan struct{})
	client.PrependWatchReactor("pods", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w, err := client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		once.Do(func() { close(watches) })
		return true, w, err
	})
	return client, func() {
		t.Helper()
		<-watches // the fake does not send earlier changes to a watch
		late.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
		if err := client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), late, "apps"); err != nil {
			t.Fatal(err)
		}
	}
}

func cluster(t *testing.T) (client *fake.Clientset, late *corev1.Pod, hash string) {
	labels, controller := map[string]string{"app": "agent"}, true
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent", UID: "set"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}}}
	history, err := view.History(ds, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	objects := []runtime.Object{ds}
	for _, name := range []string{"a", "b"} {
		hashes := map[string]string{"a": history.Hash, "b": "before"}
		late = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent-" + name, Labels: map[string]string{"app": "agent", appsv1.ControllerRevisionHashLabelKey: hashes[name]},
			OwnerReferences: []metav1.OwnerReference{{UID: "set", Controller: &controller}}},
			Spec: corev1.PodSpec{NodeName: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		objects = append(objects, late, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
	}
	return fake.NewClientset(objects...), late, history.Hash
}

// Without a terminal it prints one picture.
func TestWatchOnce(t *testing.T) {
	asked := &auditedCluster{objects: map[string]string{
		"/apis/apps/v1/namespaces/apps/daemonsets/agent":    "{apiVersion: apps/v1, kind: DaemonSet, " + watchedSet,
		"/apis/apps/v1/namespaces/apps/daemonsets":          "{apiVersion: apps/v1, kind: DaemonSetList, items: [{" + watchedSet + "]}",
		"/apis/apps/v1/namespaces/apps/controllerrevisions": "{apiVersion: apps/v1, kind: ControllerRevisionList, items: []}",
		"/api/v1/namespaces/apps/pods":                      "{apiVersion: v1, kind: PodList, items: []}",
		"/api/v1/nodes": `{apiVersion: v1, kind: NodeList, items: [
			{metadata: {name: n-1, labels: {topology.kubernetes.io/zone: eu-a}}, status: {conditions: [{type: Ready, status: "True"}]}},
			{metadata: {name: n-2, labels: {topology.kubernetes.io/zone: eu-b}}, status: {conditions: [{type: Ready, status: Unknown, message: "Kubelet stopped \u001b[2J", lastTransitionTime: "2026-01-01T00:00:00Z"}]}},
			{metadata: {name: n-3}, spec: {taints: [{key: gpu, effect: NoSchedule}]}, status: {conditions: [{type: Ready, status: "True"}]}}]}`,
	}}
	code, out, errs := asked.run(t, []string{"watch"}, "agent", "-n", "apps")
	for _, want := range []string{
		"apps/agent  not all up  ", "\n3 nodes:  o 1 waiting  x 1 down  - 1 not meant\n", "\neu-a          1 o\neu-b          1 x\n(no zone)     1 -\n",
		"\n2 nodes to look at: everynode why ds/agent -n apps --not-ok --kubeconfig=", "\nx n-2  1 Jan     the node is not Ready: Kubelet stopped ?[2J\no n-1  ", "Missing: The node has no pod, so one is created.\n    everynode why ds/agent -n apps --not-ok --kubeconfig=",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in it", want)
		}
	}
	if !strings.HasSuffix(out, "/kubeconfig\n") {
		t.Error("the command is cut off")
	}
	if code != 0 || strings.Contains(out, "\x1b") || !strings.HasPrefix(errs, "warning: events were not read") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if code, _, errs := asked.run(t, []string{"watch"}, "ds/other", "-n", "apps"); code != 1 || !strings.Contains(errs, "daemonsets/other is forbidden") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

const watchedSet = `metadata: {name: agent, namespace: apps, uid: u},
	spec: {selector: {matchLabels: {app: agent}}, template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: main, image: "agent:1"}]}}}}`

// In a pipe --until-done prints the progress of the update, and ends with it.
func TestWatchUntilDone(t *testing.T) {
	client, update := watched(t)
	reader, writer := io.Pipe()
	cmd := watching(&console.Console{Out: writer, Err: io.Discard, Program: console.Everynode})
	ended := make(chan error, 1)
	go func() {
		err := cmd.watchSet(t.Context(), client, rolloutKinds{}, &watchFlags{namespace: "apps", untilDone: true, giveUp: time.Minute}, "agent", nil)
		writer.CloseWithError(io.EOF)
		ended <- err
	}()
	first := make([]byte, 200)
	n, err := reader.Read(first)
	if err != nil || !strings.HasSuffix(string(first[:n]), " updating, 2 nodes: 1 new, 1 old\n") {
		t.Errorf("%q, %v", first[:n], err)
	}
	update()
	rest, err := io.ReadAll(reader)
	if err != nil || !strings.Contains(string(rest), "2 nodes:  # 2 new\n\n##\n") {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// An update that makes no progress, that is impossible, or that the user does not wait for, is not through.
func TestWatchNotThrough(t *testing.T) { synctest.Test(t, watchNotThrough) }

func watchNotThrough(t *testing.T) {
	client, _ := watched(t)
	flags := watchFlags{namespace: "apps", untilDone: true, giveUp: 10 * time.Millisecond}
	var out bytes.Buffer
	cmd := watching(&console.Console{Out: &out, Err: io.Discard, Program: console.Everynode})
	err := cmd.watchSet(t.Context(), client, rolloutKinds{}, &flags, "agent", nil)
	if err == nil || err.Error() != "no further node got there in 10ms (--give-up): everynode why ds/agent -n apps --not-ok says what keeps them" || !strings.HasSuffix(out.String(), "\n#.\n") {
		t.Errorf("%v\n%s", err, &out)
	}
	flags.giveUp = 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cmd.watchSet(ctx, client, rolloutKinds{}, &flags, "agent", nil); err == nil || !strings.HasPrefix(err.Error(), "interrupted before ") {
		t.Error(err)
	}
	ds, err := client.AppsV1().DaemonSets("apps").Get(t.Context(), "agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ds.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	if err := client.Tracker().Update(appsv1.SchemeGroupVersion.WithResource("daemonsets"), ds, "apps"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.watchSet(t.Context(), client, rolloutKinds{}, &flags, "agent", nil); err == nil || err.Error() != "the update has stopped: SetDeleted: The DaemonSet is being deleted." {
		t.Error(err)
	}
}

// A release in waves that has stopped ends the command. One that goes on does not, whatever the pods do.
func TestWatchRelease(t *testing.T) {
	w := watcher{untilDone: true, giveUp: time.Nanosecond}
	p := &lookout.Picture{Model: fleetmap.Model{Rollout: &fleetmap.Rollout{Phase: "Soaking"}}}
	for range 2 {
		if through, err := w.through(p, time.Now()); through || err != nil {
			t.Errorf("through: %v, %v", through, err)
		}
	}
	if at := w.wake(p); !at.IsZero() {
		t.Errorf("it gives up at %s, while a release is watched", at)
	}
	p.Model.Rollout = &fleetmap.Rollout{Phase: "Halted", Reason: "1 of 3 nodes failed", Stopped: true}
	if _, err := w.through(p, time.Now()); err == nil || err.Error() != "the update has stopped: Halted (1 of 3 nodes failed)" {
		t.Error(err)
	}
}

// openPTY opens a terminal: user is the end where keys are typed and output is seen, program the program's end.
func openPTY(t *testing.T) (user, program *os.File) {
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here:", err)
	}
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	return user, program
}

// seen collects what is written to a terminal until it has the text.
func seen(t *testing.T, terminal io.Reader, until string) string {
	t.Helper()
	var all bytes.Buffer
	part := make([]byte, 4096)
	for !strings.Contains(all.String(), until) {
		n, err := terminal.Read(part)
		if err != nil {
			t.Fatalf("%v; %q did not come, but %q", err, until, &all)
		}
		all.Write(part[:n])
	}
	return all.String()
}

// It draws on a terminal in colours, follows the terminal's size, and restores it at the end.
func TestWatchOnTerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	client, update := watched(t)
	user, program := openPTY(t)
	size := func(columns, rows uint16) {
		if err := unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
			t.Fatal(err)
		}
	}
	modes := func() unix.Termios {
		m, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *m
	}
	size(80, 24)
	before, ended := modes(), make(chan error, 1)
	cmd := watching(&console.Console{In: program, Out: program, Err: io.Discard, Program: console.Everynode})
	go func() {
		ended <- cmd.watchSet(t.Context(), client, rolloutKinds{}, &watchFlags{namespace: "apps"}, "agent", nil)
	}()
	if got := seen(t, user, "\x1b[32m#\x1b[0m."); !strings.HasPrefix(got, enterScreen+eraseAll) || strings.Contains(got, "\n") {
		t.Errorf("%q", got)
	}
	if modes() == before {
		t.Error("keys are echoed across the picture")
	}
	update()
	if got := seen(t, user, "\x1b[32m##\x1b[0m"); strings.Contains(got, eraseAll) || strings.Count(got, "\x1b[2K") > 3 {
		t.Errorf("more is written than the lines that have changed: %q", got)
	}
	size(20, 10)
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	seen(t, user, eraseAll)
	if _, err := user.WriteString("x\x03"); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, user, "##\x1b[0m\r\n"); strings.Contains(got, "^C") || !strings.Contains(got, leaveScreen) {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != nil || modes() != before {
		t.Errorf("%v; the terminal is as it was: %v", err, modes() == before)
	}
}

// NO_COLOR turns off colours, and a policy adds its waves.
func TestWatchWithoutColour(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	t.Setenv("TERM", "xterm")
	client, _ := watched(t)
	user, program := openPTY(t)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("{apiVersion: everynode.io/v1alpha1, kind: RolloutPolicy, metadata: {name: p}, spec: {}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := watching(&console.Console{In: strings.NewReader(""), Out: program, Err: io.Discard, Program: console.Everynode})
	policy, err := readPolicy(cmd.In, file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.watchSet(ctx, client, rolloutKinds{}, &watchFlags{namespace: "apps"}, "agent", policy)
	}()
	got := seen(t, user, "waves:  first ")
	cancel()
	got += seen(t, user, leaveScreen)
	if strings.Contains(got, "m#") || strings.Contains(got, "\x1b[1m") {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// watching returns the command for a cluster that no flag has chosen.
func watching(to *console.Console) watchCommand { return watchCommand{to, access{&givenCluster{}}} }

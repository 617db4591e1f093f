package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"everynode/internal/controlplane/admission"
)

// serveConfig is the variable with the Config of a process that startProcess starts.
const serveConfig = "EVERYNODE_TEST_SERVE"

// process is a control plane in a process of its own: one can run only once.
type process struct {
	input io.Closer // closing it stops the process
	ended chan struct{}
	err   error
	out   bytes.Buffer
	stop  func()
}

// readyFile is made by such a process when nodes and people can use it.
func readyFile(cfg Config) string { return cfg.DataDir + ".ready" }

// startProcess returns when the control plane is ready.
func startProcess(t *testing.T, cfg Config) *process {
	t.Helper()
	text, err := json.Marshal(map[string]string{
		"DataDir": cfg.DataDir, "Listen": cfg.Listen, "PodCIDR": cfg.PodCIDR, "ServiceCIDR": cfg.ServiceCIDR,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{ended: make(chan struct{})}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^TestServe$", "-test.v")
	cmd.Env = append(os.Environ(), serveConfig+"="+string(text))
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &p.out, &p.out, time.Second
	if p.input, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	p.stop = sync.OnceFunc(func() {
		_ = p.input.Close() // an error means that the process has ended, which is reported below
		select {
		case <-p.ended:
		case <-time.After(2 * stopTime):
			p.err = errors.Join(errors.New("it did not stop"), cmd.Process.Kill())
			<-p.ended
		}
		if p.err != nil || !strings.Contains(p.out.String(), "--- PASS: TestServe") {
			t.Errorf("the control plane: %v\n%s", p.err, p.out.String())
		}
	})
	t.Cleanup(p.stop)
	eventually(t, "the control plane is ready", func(context.Context) (bool, error) {
		select {
		case <-p.ended:
			return false, errors.New("the process has ended")
		default:
			return exists(readyFile(cfg)), nil
		}
	})
	return p
}

// TestServe runs a control plane until its standard input ends.
func TestServe(t *testing.T) {
	text := os.Getenv(serveConfig)
	if text == "" {
		t.Skip("TestSnapshotOfServer runs this in a process of its own")
	}
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	r := startServer(t, cfg)
	if err := os.WriteFile(readyFile(cfg), nil, 0o600); err != nil {
		t.Error(err)
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = io.Copy(io.Discard, os.Stdin) // the signal is that the parent ends, for whatever reason
	}()
	select {
	case <-told:
		r.end(t)
	case err := <-r.result:
		t.Error("the control plane ended by itself: ", err)
	}
}

// TestSnapshotOfServer saves a cluster, changes it, and restores it elsewhere.
// The credentials that clients have from before must still be accepted, and no
// answer may make clients believe that they have seen everything.
func TestSnapshotOfServer(t *testing.T) {
	cfg := Config{DataDir: filepath.Join(t.TempDir(), "old"), Listen: freeAddress(t), PodCIDR: "198.18.0.0/16", ServiceCIDR: "198.19.0.0/16"}
	first := startProcess(t, cfg)
	admin := adminOf(t, cfg.DataDir)
	identities := identitiesOf(t, cfg, admin)
	w := &writer{t: t, admin: client(t, admin)}
	w.create("kept", "1")
	w.create("changed", "1")
	w.create("deleted", "1")
	mirror := startMirror(t, client(t, admin))
	atSave := w.last
	file := filepath.Join(t.TempDir(), "snapshot.tar")
	saved, err := SaveSnapshot(t.Context(), Config{DataDir: cfg.DataDir}, SnapshotTarget{File: file, Everynode: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("saved: %+v", *saved)
	for i := range 20 {
		w.update("changed", strconv.Itoa(100+i))
	}
	w.update("changed", "2")
	w.remove("deleted")
	w.create("late", "1")
	mirror.waitFor(map[string]string{"kept": "1", "changed": "2", "late": "1"})
	first.stop()

	cfg.DataDir = filepath.Join(t.TempDir(), "new")
	restored, err := RestoreSnapshot(t.Context(), RestoreConfig{File: file, DataDir: cfg.DataDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("restored: %+v", *restored)
	second := startProcess(t, cfg)
	t.Run("state", func(t *testing.T) { checkState(t, w) })
	t.Run("old resource versions", func(t *testing.T) { checkOldVersions(t, w, atSave) })
	t.Run("growth", func(t *testing.T) { checkGrowth(t, w) })
	t.Run("credentials", func(t *testing.T) { checkIdentities(t, identities) })
	t.Run("informer", func(t *testing.T) {
		mirror.waitFor(map[string]string{"kept": "1", "changed": "1", "deleted": "1", "new": "1"})
	})
	mirror.stop()
	second.stop()
}

func adminOf(t *testing.T, dataDir string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dataDir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// identitiesOf returns the credentials that a cluster hands out, by the name of the user.
func identitiesOf(t *testing.T, cfg Config, admin *rest.Config) map[string]*rest.Config {
	t.Helper()
	token, err := admission.CreateToken(t.Context(), client(t, admin), admission.TokenSpec{TTL: time.Hour, Description: "test"})
	if err != nil {
		t.Fatal(err)
	}
	base := trustedConfig(t, cfg.Listen, token)
	bootstrap := rest.CopyConfig(base)
	bootstrap.BearerToken = token.String()
	node := rest.CopyConfig(base)
	node.CertData, node.KeyData = joinCertificate(t, client(t, bootstrap), "node-1")
	account := rest.CopyConfig(base)
	eventually(t, "the default service account has a token", func(ctx context.Context) (bool, error) {
		answer, err := client(t, admin).CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err == nil {
			account.BearerToken = answer.Status.Token
		}
		return true, err
	})
	return map[string]*rest.Config{
		"everynode-admin":                       admin,
		"system:node:node-1":                    node,
		"system:bootstrap:" + token.ID:          bootstrap,
		"system:serviceaccount:default:default": account,
	}
}

func checkIdentities(t *testing.T, identities map[string]*rest.Config) {
	for name, config := range identities {
		review, err := client(t, config).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || review.Status.UserInfo.Username != name {
			t.Errorf("%s is now %q: %v", name, review.Status.UserInfo.Username, err)
		}
	}
}

// writer writes config maps, and knows the newest resourceVersion it has seen.
type writer struct {
	t     *testing.T
	admin kubernetes.Interface
	last  int64
}

func (w *writer) saw(m *corev1.ConfigMap, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.last = max(w.last, revisionOf(w.t, m.ResourceVersion))
}

func revisionOf(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": value}}
}

func (w *writer) create(name, value string) {
	w.saw(w.admin.CoreV1().ConfigMaps("default").Create(w.t.Context(), configMap(name, value), metav1.CreateOptions{}))
}

func (w *writer) update(name, value string) {
	w.saw(w.admin.CoreV1().ConfigMaps("default").Update(w.t.Context(), configMap(name, value), metav1.UpdateOptions{}))
}

func (w *writer) remove(name string) {
	if err := w.admin.CoreV1().ConfigMaps("default").Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// values returns the values in the config maps of the test, by name.
func values(items []corev1.ConfigMap) map[string]string {
	all := map[string]string{}
	for _, m := range items {
		if value, ok := m.Data["value"]; ok {
			all[m.Name] = value
		}
	}
	return all
}

func checkState(t *testing.T, w *writer) {
	list, err := w.admin.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := values(list.Items), map[string]string{"kept": "1", "changed": "1", "deleted": "1"}; !maps.Equal(got, want) {
		t.Errorf("restored: %v, want what was saved: %v", got, want)
	}
	if got := revisionOf(t, list.ResourceVersion); got <= w.last {
		t.Errorf("the list has resourceVersion %d, and %d was seen before", got, w.last)
	}
}

// checkOldVersions asks for what happened since a moment that the restored
// cluster knows nothing of. The only honest answer is that it cannot say.
func checkOldVersions(t *testing.T, w *writer, atSave int64) {
	configMaps := w.admin.CoreV1().ConfigMaps("default")
	for _, old := range []int64{atSave - 1, atSave, atSave + 1, w.last, w.last + 1} {
		revision := strconv.FormatInt(old, 10)
		if err := firstError(t, w.admin, revision); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("a watch from %d (saved at %d, last seen %d) gives %v", old, atSave, w.last, err)
		}
		_, err := configMaps.List(t.Context(), metav1.ListOptions{ResourceVersion: revision, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		if !apierrors.IsResourceExpired(err) {
			t.Errorf("a list of exactly %d gives %v", old, err)
		}
		list, err := configMaps.List(t.Context(), metav1.ListOptions{ResourceVersion: revision, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
		if err != nil || revisionOf(t, list.ResourceVersion) <= w.last {
			t.Errorf("a list not older than %d gives one of %s: %v", old, list.ResourceVersion, err)
		}
	}
}

// firstError watches config maps from a resourceVersion and returns the error
// that the watch begins with.
func firstError(t *testing.T, admin kubernetes.Interface, resourceVersion string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := admin.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: resourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	event, open := <-w.ResultChan()
	switch {
	case !open:
		return fmt.Errorf("a watch that says nothing (%w)", ctx.Err())
	case event.Type != watch.Error:
		return fmt.Errorf("the event %s", event.Type)
	}
	return apierrors.FromObject(event.Object)
}

// checkGrowth writes to what was restored.
func checkGrowth(t *testing.T, w *writer) {
	seen := w.last
	w.create("new", "1")
	if w.last <= seen+revisionBump/2 {
		t.Errorf("a new object has resourceVersion %d, and %d was seen before the restore", w.last, seen)
	}
}

// mirror is what a controller knows: a store that an informer keeps up to date.
type mirror struct {
	t     *testing.T
	store cache.Store
	stop  func()
}

func startMirror(t *testing.T, c kubernetes.Interface) *mirror {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	configMaps := c.CoreV1().ConfigMaps("default")
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return configMaps.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return configMaps.Watch(ctx, o)
			},
		},
		ObjectType: &corev1.ConfigMap{},
		Handler:    cache.ResourceEventHandlerFuncs{},
	})
	var running sync.WaitGroup
	running.Go(func() { controller.RunWithContext(ctx) })
	m := &mirror{t: t, store: store, stop: func() { cancel(); running.Wait() }}
	t.Cleanup(m.stop)
	eventually(t, "the informer is in step", func(context.Context) (bool, error) { return controller.HasSynced(), nil })
	return m
}

func (m *mirror) waitFor(want map[string]string) {
	m.t.Helper()
	// While the server was away, the informer has tried less and less often.
	err := wait.PollUntilContextTimeout(m.t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		return maps.Equal(m.values(), want), nil
	})
	if err != nil {
		m.t.Fatalf("the informer knows %v, and should %v", m.values(), want)
	}
}

func (m *mirror) values() map[string]string {
	var items []corev1.ConfigMap
	for _, object := range m.store.List() {
		items = append(items, *object.(*corev1.ConfigMap))
	}
	return values(items)
}

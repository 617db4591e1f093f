package verbs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"

	"everynode/internal/rollout"
	"everynode/internal/view"
)

// releasesAPI is an API server with the objects of a file, and an engine that acts on requests. modes are what goes
// wrong.
type releasesAPI struct {
	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured // by path
	version int
	modes   []string
}

// releases FILE [MODE...]: start such a server, and write the file "kubeconfig".
func releases(ts *testscript.TestScript, _ bool, args []string) {
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	api, err := newReleasesAPI(text, args[1:]...)
	ts.Check(err)
	server := httptest.NewServer(api)
	ts.Defer(server.Close)
	ts.Check(writeKubeconfig(ts.MkAbs("kubeconfig"), server.URL))
}

// newReleasesAPI returns a releasesAPI with the objects of a file.
func newReleasesAPI(text []byte, modes ...string) (*releasesAPI, error) {
	api := &releasesAPI{objects: map[string]*unstructured.Unstructured{}, modes: modes}
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var object map[string]any
		if err := docs.Decode(&object); errors.Is(err, io.EOF) {
			return api, nil
		} else if err != nil {
			return nil, err
		}
		api.put(whole(object))
	}
}

func writeKubeconfig(name, url string) error {
	return os.WriteFile(name, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c,
  clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}]}`, url), 0o600)
}

func (api *releasesAPI) is(mode string) bool { return slices.Contains(api.modes, mode) }

func (api *releasesAPI) put(o *unstructured.Unstructured) {
	api.version++
	o.SetResourceVersion(strconv.Itoa(api.version))
	path := "/apis/" + o.GetAPIVersion()
	if o.GetAPIVersion() == "v1" {
		path = "/api/v1"
	}
	if namespace := o.GetNamespace(); namespace != "" {
		path += "/namespaces/" + namespace
	}
	api.objects[path+"/"+resourceOf(o.GetKind())+"/"+o.GetName()] = o
}

func resourceOf(kind string) string {
	if kind == view.PolicyKind {
		return view.PolicyResource
	}
	return strings.ToLower(kind) + "s"
}

func (api *releasesAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	api.mu.Lock()
	defer api.mu.Unlock()
	var answer any
	o := api.objects[r.URL.Path]
	resource := schema.GroupResource{Group: "everynode.io", Resource: view.RolloutResource}
	switch ours := strings.Contains(r.URL.Path, "everynode.io"); {
	case ours && api.is("no-kinds"):
		http.NotFound(w, r)
		return
	case ours && api.is("forbidden"):
		answer = apierrors.NewForbidden(resource, "agent", errors.New("you are not allowed to")).Status()
	case r.Method == http.MethodPatch:
		answer = api.patch(o, r)
	case o != nil:
		answer = o
	case slices.Contains([]string{view.RolloutResource, view.PolicyResource, "controllerrevisions", "daemonsets", "events", "nodes", "pods"}, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]):
		answer = api.list(r.URL.Path)
	default:
		answer = apierrors.NewNotFound(resource, "agent").Status()
	}
	w.Header().Set("Content-Type", "application/json")
	if status, wrong := answer.(metav1.Status); wrong {
		status.Kind, status.APIVersion = "Status", "v1"
		answer = status
		w.WriteHeader(int(status.Code))
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}

// list returns the objects below the path or, if it has no namespace, those of that kind in all namespaces.
func (api *releasesAPI) list(path string) any {
	items := []any{}
	prefix, resource := path[:strings.LastIndex(path, "/")], path[strings.LastIndex(path, "/"):]+"/"
	for _, name := range slices.Sorted(maps.Keys(api.objects)) {
		if strings.HasPrefix(name, prefix) && strings.Contains(name, resource) {
			items = append(items, api.objects[name].Object)
		}
	}
	version := strings.Join(strings.Split(path, "/")[2:4], "/")
	kind := map[string]string{"/nodes/": "NodeList", "/pods/": "PodList", "/controllerrevisions/": "ControllerRevisionList", "/daemonsets/": "DaemonSetList", "/events/": "EventList"}[resource]
	switch {
	case strings.HasPrefix(path, "/api/"):
		version = "v1"
	case kind == "":
		kind = "List"
	}
	return map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"resourceVersion": "1"}, "items": items}
}

// patch applies a merge patch, which must have a resourceVersion. With "busy" another client writes the object before
// the patch. With "new-release" the release has ended by then, and with "edited" the template has changed.
func (api *releasesAPI) patch(o *unstructured.Unstructured, r *http.Request) any {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	var given struct {
		Metadata struct{ ResourceVersion string }
		Status   any
	}
	if err := json.Unmarshal(body, &given); err != nil || given.Metadata.ResourceVersion == "" || given.Status != nil {
		panic(fmt.Sprintf("%s: %v", body, err))
	}
	if api.is("busy") {
		api.modes = nil
		api.put(o)
	}
	if api.is("new-release") {
		api.modes = nil
		must(unstructured.SetNestedField(o.Object, int64(9), "status", "release"))
		api.put(o)
	}
	if api.is("edited") {
		api.modes = nil
		must(unstructured.SetNestedField(o.Object, "edited", "spec", "template", "metadata", "labels", "by"))
		api.put(o)
	}
	if given.Metadata.ResourceVersion != o.GetResourceVersion() {
		return apierrors.NewConflict(schema.GroupResource{Resource: view.RolloutResource}, o.GetName(), errors.New("it has been modified")).Status()
	}
	var patch map[string]any
	must(json.Unmarshal(body, &patch))
	if o.GetKind() == "DaemonSet" {
		return api.patchTemplate(o, patch)
	}
	o = whole(merged(o.DeepCopy().Object, patch))
	o.SetGeneration(o.GetGeneration() + 1)
	api.put(o)
	if !api.is("silent") {
		api.heed(o)
	}
	return o
}

// patchTemplate applies a strategic merge patch that replaces the template. It panics for any other.
func (api *releasesAPI) patchTemplate(o *unstructured.Unstructured, patch map[string]any) any {
	template, _, err := unstructured.NestedMap(patch, "spec", "template")
	if err != nil || template["$patch"] != "replace" {
		panic(fmt.Sprintf("%v: %v", patch, err))
	}
	if api.is("read-only") {
		return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "daemonsets"}, o.GetName(), errors.New("you are not allowed to")).Status()
	}
	delete(template, "$patch")
	must(unstructured.SetNestedMap(o.Object, template, "spec", "template"))
	api.put(o)
	return o
}

// whole returns the object with whole numbers as integers, as an API server has them.
func whole(object map[string]any) *unstructured.Unstructured {
	text, err := json.Marshal(object)
	must(err)
	o := &unstructured.Unstructured{}
	must(o.UnmarshalJSON(text))
	return o
}

// merged applies a JSON merge patch (RFC 7396).
func merged(to, patch map[string]any) map[string]any {
	if to == nil {
		to = map[string]any{}
	}
	for key, value := range patch {
		if below, ok := value.(map[string]any); ok {
			is, _ := to[key].(map[string]any)
			value = merged(is, below)
		}
		if to[key] = value; value == nil {
			delete(to, key)
		}
	}
	return to
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// heed is the engine: the nodes are as the status says, and the policy is the one that the status names, or the
// default.
func (api *releasesAPI) heed(o *unstructured.Unstructured) {
	var read view.DaemonSetRollout
	must(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &read))
	state, err := view.RolloutState(&read)
	must(err)
	p := rollout.Default()
	if ref := read.Status.Policy; ref != nil && api.objects["/apis/everynode.io/v1alpha1/rolloutpolicies/"+ref.Name] != nil {
		var wire view.RolloutPolicy
		must(runtime.DefaultUnstructuredConverter.FromUnstructured(api.objects["/apis/everynode.io/v1alpha1/rolloutpolicies/"+ref.Name].Object, &wire))
		p, _ = view.Policy(&wire)
	}
	requests, wrong := view.RolloutRequests(&read)
	n := read.Status.Nodes
	in := &rollout.Seen{Target: state.Target, Pods: map[string]int{}, Exposed: n.Exposed, Well: n.Well, UnderWay: n.UnderWay, Failed: n.Failed, Other: n.Other, Bound: 1, Requests: requests}
	var nodes []rollout.Node
	for i := range n.Eligible {
		nodes = append(nodes, rollout.Node{Name: fmt.Sprint("n", i), Exposed: i < n.Exposed})
	}
	in.Layout = rollout.NewLayout(&p, "uid", nodes)
	before := 0
	for _, step := range in.Layout.Steps {
		in.Counts = append(in.Counts, rollout.Counts{Candidates: max(0, step.Quota-max(before, n.Exposed))})
		before = step.Quota
	}
	next, _ := rollout.Advance(&p, state, in, time.Now())
	read.Status = view.RolloutStatus(&read.Status, &next, &view.RolloutReport{Generation: o.GetGeneration(), Wrong: wrong, Policy: &p, Nodes: n, Failures: read.Status.Failures, Now: time.Now()})
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&read.Status)
	must(err)
	o.Object["status"] = status
	api.put(o)
}

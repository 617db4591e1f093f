package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"everynode/internal/view"
)

// fakeAPI is an in-memory API server, as the engine's client sees one. It is the
// transport of a rest.Config, so it gets the real requests, encodings and watches,
// without a socket, and so works in a synctest bubble.
type fakeAPI struct {
	mu      sync.Mutex
	version uint64
	nextUID int
	objects map[string]map[string]runtime.Object // resource, namespace/name
	log     map[string][]logged                  // resource: the history of all changes
	forget  map[string]uint64                    // resource: changes up to here are no longer watchable
	changed *sync.Cond
	lag     map[string]bool // resource: watches stand still
	cut     uint64          // watches begun before this count are over
	watches uint64

	// before may answer a request instead of the server (an error), or let it happen
	// and lose the answer (lost). It is called without mu, one request at a time.
	hook   sync.Mutex
	before func(r request) (err error, lost bool)
	// served is called when a request has taken effect, before it is answered; nil: never.
	served func(r request)
	// slow returns how long a request takes before it is served; set by slowDown.
	slow func(r request) time.Duration
	// after is called with each pod that was stored, with mu held.
	after func(pod *corev1.Pod)
	// writes counts write requests, by "VERB resource".
	writes map[string]int
	// creates has the names and nodes of pods that were created.
	creates []string
	status  []appsv1.DaemonSetStatus
	// ahead is how far the clocks of the server and the kubelets are ahead of the
	// engine's; set before the engine starts.
	ahead time.Duration
	// denied is the set of missing permissions, as "verb resource"; set by deny.
	denied map[string]bool
	// webhooks are asked about every write; set by admit.
	webhooks []webhook
	garbage  *collector // nil: there is none
	// mutate is admission that changes a pod that is created; set before the engine
	// starts.
	mutate func(*corev1.Pod)
}

type logged struct {
	kind    string
	version uint64
	object  runtime.Object
	was     runtime.Object // the object before; nil: it did not exist
}

// request is one parsed request.
type request struct {
	verb, resource, namespace, name, sub string
	ctx                                  context.Context
	body                                 []byte
	query                                map[string][]string
}

func (r request) is(verb, resource string) bool { return r.verb == verb && r.resource == resource }

func (r request) key() string { return path.Join(r.namespace, r.name) }

func newFakeAPI() *fakeAPI {
	f := &fakeAPI{version: 100, objects: map[string]map[string]runtime.Object{}, log: map[string][]logged{},
		forget: map[string]uint64{}, lag: map[string]bool{}, writes: map[string]int{}}
	for _, r := range []string{"pods", "nodes", "events", "daemonsets", "controllerrevisions", "leases", runtimeClasses} {
		f.objects[r] = map[string]runtime.Object{}
	}
	f.changed = sync.NewCond(&f.mu)
	return f
}

func (f *fakeAPI) config() *rest.Config { return &rest.Config{Host: "http://fake", Transport: f} }

// now returns the time by the server's clock.
func (f *fakeAPI) now() metav1.Time {
	return metav1.NewTime(time.Now().Add(f.ahead).Truncate(time.Second))
}

// RoundTrip answers one request, and adds the server's time to the answer where that
// matters.
func (f *fakeAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(req.URL.RequestURI()) > 8<<10 { // nginx and others refuse it
		return &http.Response{Status: "414 URI Too Long", StatusCode: http.StatusRequestURITooLong, Header: http.Header{}, Body: http.NoBody}, nil
	}
	resp, err := f.answer(req)
	if err == nil && f.ahead != 0 {
		resp.Header.Set("Date", f.now().UTC().Format(http.TimeFormat))
	}
	return resp, err
}

func (f *fakeAPI) answer(req *http.Request) (*http.Response, error) {
	if req.URL.Path == "/version" {
		return respondVersion()
	}
	r, err := parse(req)
	if err != nil {
		return nil, err
	}
	err, lost := f.intercepted(r)
	if err != nil {
		return respondError(err)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if r.verb == "watch" {
		if f.lacks(r.resource) {
			return respondError(apierrors.NewNotFound(schema.GroupResource{Resource: r.resource}, ""))
		}
		if err := f.forbidden(r); err != nil {
			return respondError(err)
		}
		return f.watch(r), nil
	}
	if err := f.admitted(r); err != nil {
		return respondError(err)
	}
	obj, err := f.serve(r)
	if f.served != nil {
		f.served(r)
	}
	if lost {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return respondError(err)
	}
	return respondAsked(req, obj)
}

// intercept sets a function that is called before every request; nil: none.
func (f *fakeAPI) intercept(before func(r request) (err error, lost bool)) {
	f.hook.Lock()
	defer f.hook.Unlock()
	f.before = before
}

// slowDown sets how long requests take; nil: no time.
func (f *fakeAPI) slowDown(slow func(r request) time.Duration) {
	f.hook.Lock()
	defer f.hook.Unlock()
	f.slow = slow
}

// deny takes permissions away; without arguments it restores them all.
func (f *fakeAPI) deny(what ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = map[string]bool{}
	for _, w := range what {
		f.denied[w] = true
	}
}

func (f *fakeAPI) delay(r request) {
	f.hook.Lock()
	var d time.Duration
	if f.slow != nil {
		d = f.slow(r)
	}
	f.hook.Unlock()
	if d > 0 {
		sleep(r.ctx, d)
	}
}

func (f *fakeAPI) intercepted(r request) (err error, lost bool) {
	f.delay(r)
	f.hook.Lock()
	defer f.hook.Unlock()
	if f.before == nil {
		return nil, false
	}
	return f.before(r)
}

func parse(req *http.Request) (request, error) {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	if parts[0] == "api" {
		parts = parts[2:]
	} else {
		parts = parts[3:]
	}
	r := request{ctx: req.Context(), query: req.URL.Query()}
	if parts[0] == "namespaces" && len(parts) > 2 {
		r.namespace, parts = parts[1], parts[2:]
	}
	r.resource = parts[0]
	if len(parts) > 1 {
		r.name = parts[1]
	}
	if len(parts) > 2 {
		r.sub = parts[2]
	}
	r.verb = map[string]string{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}[req.Method]
	if r.verb == "get" && r.name == "" {
		r.verb = "list"
		if req.URL.Query().Get("watch") != "" {
			r.verb = "watch"
		}
	}
	if req.Body == nil {
		return r, nil
	}
	var err error
	r.body, err = io.ReadAll(req.Body)
	return r, err
}

// forbidden returns the error if the request is not permitted.
func (f *fakeAPI) forbidden(r request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused(r)
}

// refused is forbidden, with mu held.
func (f *fakeAPI) refused(r request) error {
	if !f.denied[r.verb+" "+path.Join(r.resource, r.sub)] {
		return nil
	}
	return apierrors.NewForbidden(schema.GroupResource{Resource: r.resource}, r.name, fmt.Errorf("there is no role for %s %s", r.verb, r.resource))
}

func (f *fakeAPI) serve(r request) (runtime.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.resource == "selfsubjectaccessreviews" {
		review := decode(r.body).(*authorizationv1.SelfSubjectAccessReview)
		a := review.Spec.ResourceAttributes
		review.Status.Allowed = !f.denied[a.Verb+" "+path.Join(a.Resource, a.Subresource)]
		return review, nil
	}
	if err := f.refused(r); err != nil {
		return nil, err
	}
	if r.verb != "get" && r.verb != "list" && r.query["dryRun"] == nil {
		f.writes[r.verb+" "+r.resource]++
	}
	old := f.objects[r.resource][r.key()]
	gr := schema.GroupResource{Resource: r.resource}
	if f.objects[r.resource] == nil {
		return nil, apierrors.NewNotFound(gr, r.name)
	}
	if old == nil && r.verb != "create" && r.verb != "list" {
		return nil, apierrors.NewNotFound(gr, r.name)
	}
	switch r.verb {
	case "get":
		return old, nil
	case "list":
		return onNode(f.list(r.resource, r.labels()), first(r.query["fieldSelector"])), nil
	case "create":
		obj := decode(r.body)
		if pod, ok := obj.(*corev1.Pod); ok && f.mutate != nil {
			f.mutate(pod)
		}
		m, _ := meta.Accessor(obj)
		m.SetNamespace(r.namespace)
		if r.resource == "events" {
			// The client names events by the nanosecond, which is not unique in a bubble.
			m.SetName(fmt.Sprintf("%s-%d", m.GetName(), f.version))
		}
		if f.objects[r.resource][path.Join(r.namespace, m.GetName())] != nil {
			return nil, apierrors.NewAlreadyExists(gr, m.GetName())
		}
		if r.query["dryRun"] != nil {
			return obj, nil
		}
		return f.add(r.resource, obj), nil
	case "update":
		return f.update(r, old)
	case "patch":
		return f.patch(r, old)
	default:
		return f.remove(r, old)
	}
}

func (f *fakeAPI) add(resource string, obj runtime.Object) runtime.Object {
	m, _ := meta.Accessor(obj)
	f.nextUID++
	m.SetUID(types.UID(fmt.Sprintf("uid-%04d", f.nextUID)))
	m.SetCreationTimestamp(f.now())
	switch o := obj.(type) {
	case *appsv1.DaemonSet:
		o.Generation = 1
	case *corev1.Pod:
		o.Status.Phase, o.Generation = corev1.PodPending, 1
		if o.Spec.TerminationGracePeriodSeconds == nil {
			o.Spec.TerminationGracePeriodSeconds = new(int64(corev1.DefaultTerminationGracePeriodSeconds))
		}
		onHostNetwork(&o.Spec)
		f.creates = append(f.creates, o.Name+" on "+o.Spec.NodeName)
	}
	f.store(resource, "ADDED", obj)
	return obj
}

// store records a change. Objects in the store are immutable.
func (f *fakeAPI) store(resource, kind string, obj runtime.Object) {
	f.version++
	m, _ := meta.Accessor(obj)
	m.SetResourceVersion(strconv.FormatUint(f.version, 10))
	key := path.Join(m.GetNamespace(), m.GetName())
	was := f.objects[resource][key]
	if kind == "DELETED" {
		delete(f.objects[resource], key)
	} else {
		f.objects[resource][key] = obj
	}
	f.log[resource] = append(f.log[resource], logged{kind, f.version, obj, was})
	if pod, ok := obj.(*corev1.Pod); ok && f.after != nil && kind != "DELETED" {
		f.after(pod)
	}
	f.awaitCollector()
	f.changed.Broadcast()
}

func (f *fakeAPI) update(r request, old runtime.Object) (runtime.Object, error) {
	obj := decode(r.body)
	m, _ := meta.Accessor(obj)
	o, _ := meta.Accessor(old)
	if m.GetResourceVersion() != "" && m.GetResourceVersion() != o.GetResourceVersion() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: r.resource}, r.name, fmt.Errorf("version %s, not %s", o.GetResourceVersion(), m.GetResourceVersion()))
	}
	if kindOf(r.resource) != "" {
		return f.put(r.resource, old, updateOfKind(old.(*unstructured.Unstructured), obj.(*unstructured.Unstructured), r.sub)), nil
	}
	if r.sub == "status" {
		ds, sent := old.(*appsv1.DaemonSet).DeepCopy(), obj.(*appsv1.DaemonSet)
		// The real server accepts labels and annotations with the status, too.
		ds.Status, ds.Labels, ds.Annotations = sent.Status, sent.Labels, sent.Annotations
		obj = ds
		f.status = append(f.status, ds.Status)
	}
	return f.put(r.resource, old, obj), nil
}

func (f *fakeAPI) patch(r request, old runtime.Object) (runtime.Object, error) {
	o, _ := meta.Accessor(old)
	var want struct {
		Metadata struct {
			UID             types.UID
			ResourceVersion string
		}
	}
	if err := json.Unmarshal(r.body, &want); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if want.Metadata.UID != "" && want.Metadata.UID != o.GetUID() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: r.resource}, r.name, fmt.Errorf("another UID"))
	}
	if v := want.Metadata.ResourceVersion; v != "" && v != o.GetResourceVersion() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: r.resource}, r.name, fmt.Errorf("version %s, not %s", o.GetResourceVersion(), v))
	}
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	merged, err := strategicpatch.StrategicMergePatch(before, r.body, old)
	if err != nil {
		return nil, err
	}
	obj := old.DeepCopyObject()
	meta.NewAccessor()
	if pod, ok := obj.(*corev1.Pod); ok {
		*pod = corev1.Pod{}
	}
	if err := json.Unmarshal(merged, obj); err != nil {
		return nil, err
	}
	if pod, ok := obj.(*corev1.Pod); ok && !equality.Semantic.DeepEqual(pod.Spec, old.(*corev1.Pod).Spec) {
		pod.Generation++
	}
	return f.put(r.resource, old, obj), nil
}

func (f *fakeAPI) list(resource string, wanted labels.Selector) runtime.Object {
	var items []runtime.Object
	for _, o := range f.objects[resource] {
		if has(o, wanted) {
			items = append(items, o)
		}
	}
	kind := map[string]runtime.Object{"pods": &corev1.PodList{}, "nodes": &corev1.NodeList{}, "daemonsets": &appsv1.DaemonSetList{},
		"controllerrevisions": &appsv1.ControllerRevisionList{}, "leases": &coordinationv1.LeaseList{}, runtimeClasses: &nodev1.RuntimeClassList{}, "events": &corev1.EventList{}}
	var l runtime.Object
	if special := kindOf(resource); special != "" {
		l = listOfKind(special, items)
	} else {
		l = kind[resource].DeepCopyObject()
		if err := meta.SetList(l, items); err != nil {
			panic(err)
		}
	}
	m, _ := meta.ListAccessor(l)
	m.SetResourceVersion(strconv.FormatUint(f.version, 10))
	return l
}

// watch streams changes until the client goes away or the watch is cut.
func (f *fakeAPI) watch(r request) *http.Response {
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(r.ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches++
	from, err := strconv.ParseUint(first(r.query["resourceVersion"]), 10, 64)
	initial := first(r.query["sendInitialEvents"]) == "true"
	head := f.initial(r.resource, initial, r.labels())
	if initial || err != nil {
		from = f.version
	}
	expired := from < f.forget[r.resource]
	context.AfterFunc(ctx, func() { f.mu.Lock(); f.changed.Broadcast(); f.mu.Unlock() })
	go f.stream(ctx, r, from, f.watches, expired, head, in)
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: &watchBody{out, cancel}}
}

type watchBody struct {
	*io.PipeReader
	cancel func()
}

func (b *watchBody) Close() error { b.cancel(); return b.PipeReader.Close() }

func (f *fakeAPI) initial(resource string, asked bool, wanted labels.Selector) []logged {
	if !asked {
		return nil
	}
	var head []logged
	for _, o := range f.objects[resource] {
		if has(o, wanted) {
			head = append(head, logged{kind: "ADDED", object: o})
		}
	}
	marks := map[string]runtime.Object{view.PolicyResource: newOfKind(view.PolicyKind), view.RolloutResource: newOfKind(view.RolloutKind),
		"pods": &corev1.Pod{}, "nodes": &corev1.Node{}, "daemonsets": &appsv1.DaemonSet{},
		"controllerrevisions": &appsv1.ControllerRevision{}, "leases": &coordinationv1.Lease{}, runtimeClasses: &nodev1.RuntimeClass{}}
	mark := marks[resource].DeepCopyObject()
	m, _ := meta.Accessor(mark)
	m.SetResourceVersion(strconv.FormatUint(f.version, 10))
	m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return append(head, logged{kind: "BOOKMARK", version: f.version, object: mark})
}

func (f *fakeAPI) stream(ctx context.Context, r request, from, number uint64, expired bool, head []logged, to *io.PipeWriter) {
	defer to.Close()
	if expired {
		status := apierrors.NewResourceExpired("too old").Status()
		writeEvent(to, "ERROR", &status)
		return
	}
	for _, l := range head {
		if writeEvent(to, l.kind, l.object) != nil {
			return
		}
	}
	wanted := r.labels()
	for {
		l, ok := f.nextChange(ctx, r.resource, from, number)
		if !ok {
			return
		}
		from = l.version
		if seen, shown := l.through(wanted); shown && writeEvent(to, seen.kind, seen.object) != nil {
			return
		}
	}
}

// nextChange waits for the first change after from.
func (f *fakeAPI) nextChange(ctx context.Context, resource string, from, number uint64) (logged, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if ctx.Err() != nil || number <= f.cut {
			return logged{}, false
		}
		log := f.log[resource]
		i, _ := slices.BinarySearchFunc(log, from+1, func(l logged, v uint64) int { return int(l.version) - int(v) })
		if i < len(log) && !f.lag[resource] {
			return log[i], true
		}
		f.changed.Wait()
	}
}

// stall stops or resumes the watches of a resource.
func (f *fakeAPI) stall(resource string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lag[resource] = on
	f.changed.Broadcast()
}

// cutWatches ends all watches. With forget, they cannot be resumed: the client has to
// list again.
func (f *fakeAPI) cutWatches(forget bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = f.watches
	if forget {
		f.version++
		for r := range f.objects {
			f.forget[r] = f.version
		}
	}
	f.changed.Broadcast()
}

func first(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

func decode(body []byte) runtime.Object {
	if u := decodeOfKind(body); u != nil {
		return u
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		panic(fmt.Sprintf("decoding %q: %v", body, err))
	}
	return obj
}

func encode(obj runtime.Object) []byte {
	if s, ok := obj.(*metav1.Status); ok {
		s.Kind, s.APIVersion = "Status", "v1"
		b, _ := json.Marshal(s)
		return append(b, '\n')
	}
	switch obj.(type) {
	case *unstructured.Unstructured, *unstructured.UnstructuredList:
		b, err := runtime.Encode(unstructured.UnstructuredJSONScheme, obj)
		if err != nil {
			panic(err)
		}
		return b
	}
	// The encoder writes kind and version into its argument.
	b, err := runtime.Encode(scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion,
		authorizationv1.SchemeGroupVersion, nodev1.SchemeGroupVersion), obj.DeepCopyObject())
	if err != nil {
		panic(err)
	}
	return b
}

func writeEvent(to io.Writer, kind string, obj runtime.Object) error {
	b, err := json.Marshal(map[string]any{"type": kind, "object": json.RawMessage(encode(obj))})
	if err != nil {
		return err
	}
	_, err = to.Write(append(b, '\n'))
	return err
}

func respond(code int, obj runtime.Object) (*http.Response, error) {
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(encode(obj)))}, nil
}

func respondVersion() (*http.Response, error) {
	body := fmt.Sprintf(`{"major":"1","minor":"%d"}`, typesMinor)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body))}, nil
}

// respondError answers with an API status; any other error is a transport error.
func respondError(err error) (*http.Response, error) {
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		return nil, err
	}
	s := status.Status()
	resp, err := respond(int(s.Code), &s)
	if d := s.Details; d != nil && d.RetryAfterSeconds > 0 {
		resp.Header.Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	return resp, err
}

// sameSpec is used when a test edits a DaemonSet: the generation changes with the spec.
func sameSpec(a, b *appsv1.DaemonSet) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) }

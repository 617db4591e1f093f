// Package gitops_test runs other tools' checks for releases on objects that the engine has written: the scripts for Argo CD in
// its interpreter, and kstatus, which Flux uses. It is a separate module, so that these libraries do not determine the versions
// that everynode's programs use.
package gitops_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/cel-go/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// record is an object of testdata, with the name that TestGitOpsRecords of internal/view gives it.
type record struct {
	Name   string         `json:"name"`
	Object map[string]any `json:"object"`
}

func records(t *testing.T, file string) (all []record) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(all) < 10 {
		t.Fatalf("%s has %d objects", file, len(all))
	}
	for i := range all {
		all[i].Object = integers(all[i].Object).(map[string]any)
	}
	return all
}

// integers converts the numbers of an object to the type that clients use, because kstatus accepts no other for a generation.
func integers(value any) any {
	switch v := value.(type) {
	case float64:
		return int64(v)
	case map[string]any:
		for key := range v {
			v[key] = integers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	}
	return value
}

// health runs a script as Argo CD runs those of argocd-cm: with three of Lua's libraries, and the object as obj.
func health(t *testing.T, script string, object map[string]any) (status, message string) {
	t.Helper()
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, open := range map[string]lua.LGFunction{lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	l.SetContext(t.Context())
	l.SetGlobal("obj", valueOf(l, object))
	if err := l.DoString(script); err != nil {
		t.Fatal(err)
	}
	said, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returns a %s, and Argo CD wants a table", l.Get(-1).Type())
	}
	return said.RawGetString("status").String(), said.RawGetString("message").String()
}

func valueOf(l *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case string:
		return lua.LString(v)
	case bool:
		return lua.LBool(v)
	case int64:
		return lua.LNumber(v)
	case []any:
		table := l.NewTable()
		for _, item := range v {
			table.Append(valueOf(l, item))
		}
		return table
	case map[string]any:
		table := l.NewTable()
		for key, item := range v {
			table.RawSetString(key, valueOf(l, item))
		}
		return table
	}
	return lua.LNil
}

func script(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// verdict is how each tool that waits judges an object.
type verdict struct{ argo, flux string }

var (
	through = verdict{"Healthy", "Current"}
	goesOn  = verdict{"Progressing", "InProgress"}
	stands  = verdict{"Degraded", "Failed"}
	asks    = verdict{"Suspended", "InProgress"} // it waits for a person, as intended
)

// rolloutVerdicts returns the expected verdict for each DaemonSetRollout of testdata.
func rolloutVerdicts() map[string]verdict {
	return map[string]verdict{
		"Idle":                           through,
		"Idle PolicyGone":                through,
		"Idle, and the guard holds pods": stands,
		"Rolling UnderQuota":             goesOn,
		"Rolling UnderQuota, and the guard holds pods": stands,
		"Rolling NotSettled":                           goesOn,
		"Rolling APIUnwell":                            goesOn,
		"Rolling NoneWell":                             goesOn,
		"Waiting NoneWell":                             stands,
		"Soaking NotSoaked":                            goesOn,
		"Waiting NotApproved":                          asks,
		"Waiting WindowClosed":                         goesOn,
		"Paused PauseRequested":                        asks,
		"Halted TooManyFailed":                         stands,
		"Halted TooManyFailed, and a request that does nothing":  stands,
		"RollingBack AbortRequested":                             goesOn,
		"RollingBack FailedBack":                                 goesOn,
		"RollingBack Reverted":                                   goesOn,
		"Aborted AbortRequested":                                 stands,
		"Aborted FailedBack":                                     stands,
		"Aborted AbortRequested, beside the built-in controller": stands,
		"Held StableUnknown":                                     stands,
		"Held ViewIncomplete":                                    goesOn,
		"Held PolicyUnreadable":                                  stands,
		"Held PolicyGone":                                        stands,
		"Held SeveralPolicies":                                   stands,
		"Held StableGone":                                        stands,
		"Held ClockSkew":                                         stands,
		"Held NotDriven":                                         stands,
		"Held NotObserved":                                       stands,
		"no engine has looked at it yet":                         goesOn,
		"Idle, and the last request is not heeded yet":           goesOn,
		"its status cannot be read":                              stands,
	}
}

// TestRollouts: Argo CD and Flux wait while a release goes on, fail once it has stopped, and report success when it has ended.
func TestRollouts(t *testing.T) {
	judge(t, records(t, "daemonsetrollouts.yaml"), rolloutVerdicts(), script(t, "daemonsetrollout.lua"))
}

// TestExpressions: for a DaemonSetRollout the expressions of docs/gitops.md agree with its conditions, except that a release
// that waits for a person counts as failed. Flux checks the generation first, and then failed and current.
func TestExpressions(t *testing.T) {
	var said struct {
		Spec struct {
			HealthCheckExprs []struct{ APIVersion, Kind, Failed, Current string }
		}
	}
	_, block, found := strings.Cut(script(t, "../../docs/gitops.md"), "```yaml\nspec:\n  healthCheckExprs:")
	block, _, _ = strings.Cut(block, "```")
	if err := yaml.UnmarshalStrict([]byte("spec:\n  healthCheckExprs:"+block), &said); err != nil || !found || len(said.Spec.HealthCheckExprs) != 1 {
		t.Fatalf("docs/gitops.md has no expressions that can be read: %v", err)
	}
	e := said.Spec.HealthCheckExprs[0]
	for _, r := range records(t, "daemonsetrollouts.yaml") {
		want := rolloutVerdicts()[r.Name]
		if want == asks {
			want.flux = "Failed"
		}
		if r.Object["kind"] != e.Kind || r.Object["apiVersion"] != e.APIVersion {
			t.Fatalf("the expressions are for %s %s", e.APIVersion, e.Kind)
		}
		got := "InProgress"
		switch {
		case unheeded(r.Object):
		case holds(t, e.Failed, r.Object):
			got = "Failed"
		case holds(t, e.Current, r.Object):
			got = "Current"
		}
		if got != want.flux {
			t.Errorf("%s: by the expressions it is %s, want %s", r.Name, got, want.flux)
		}
	}
}

func unheeded(object map[string]any) bool {
	generation, _, _ := unstructured.NestedInt64(object, "metadata", "generation")
	observed, _, _ := unstructured.NestedInt64(object, "status", "observedGeneration")
	return generation != observed
}

// holds evaluates an expression, with the parts of the object as its variables.
func holds(t *testing.T, expression string, object map[string]any) bool {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("metadata", cel.DynType), cel.Variable("spec", cel.DynType), cel.Variable("status", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", expression, issues.Err())
	}
	program, err := env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := program.Eval(object)
	if err != nil {
		t.Fatalf("%s: %v", expression, err) // Flux would wait until the timeout
	}
	return value.Value() == true
}

// setVerdicts returns the expected verdict for each DaemonSet of testdata. kstatus looks only at its numbers: for kstatus a
// release goes on until every node has the new version.
func setVerdicts() map[string]verdict {
	all := map[string]verdict{
		"Idle, and too few pods are available":          goesOn,
		"the new template is not kept yet":              goesOn,
		"Idle, and the last change is not observed yet": goesOn,
	}
	for name, v := range rolloutVerdicts() {
		if v != through && name != "Idle, and the guard holds pods" {
			v.flux = "InProgress"
		} else {
			v.flux = "Current"
		}
		switch name {
		case "Aborted AbortRequested, beside the built-in controller", "Held NotDriven", "Held NotObserved", "no engine has looked at it yet",
			"Idle, and the last request is not heeded yet", "its status cannot be read":
			continue
		}
		all[name] = v
	}
	return all
}

// TestSets: the same, for the DaemonSet itself.
func TestSets(t *testing.T) {
	judge(t, records(t, "daemonsets.yaml"), setVerdicts(), script(t, "daemonset.lua"))
}

func judge(t *testing.T, all []record, want map[string]verdict, script string) {
	t.Helper()
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
		argo, message := health(t, script, r.Object)
		computed, err := status.Compute(&unstructured.Unstructured{Object: r.Object})
		if err != nil {
			t.Fatal(err)
		}
		if got := (verdict{argo, string(computed.Status)}); got != want[r.Name] {
			t.Errorf("%s: Argo CD takes it for %s and Flux for %s, want %s and %s: %q, %q", r.Name, got.argo, got.flux, want[r.Name].argo, want[r.Name].flux, message, computed.Message)
		}
		if message == "" || message == lua.LNil.String() {
			t.Errorf("%s: %s, and nothing says why", r.Name, argo)
		}
	}
	for name := range want {
		if !slices.Contains(names, name) {
			t.Errorf("testdata has no object %q", name)
		}
	}
}

// TestOtherSets: for a DaemonSet without a policy the script agrees with Argo CD's own. A DaemonSet that names a policy and is
// OnDelete is waited for, if nobody writes conditions.
func TestOtherSets(t *testing.T) {
	for _, c := range []struct{ strategy, meta, status, want string }{
		{"RollingUpdate", "{}, generation: 2", "desiredNumberScheduled: 3, updatedNumberScheduled: 2, numberAvailable: 3", "Progressing 2 of 3 pods are of the last template"},
		{"RollingUpdate", "{}, generation: 2", "desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 2", "Progressing 2 of 3 pods are available"},
		{"RollingUpdate", "{}, generation: 2", "desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3", "Healthy 3 pods are available"},
		{"RollingUpdate", "{}, generation: 2", "desiredNumberScheduled: 0", "Healthy 0 pods are available"},
		{"OnDelete", "{}, generation: 2", "desiredNumberScheduled: 3, updatedNumberScheduled: 1, numberAvailable: 2", "Healthy 1 of 3 pods are of the last template; the others wait to be deleted"},
		{"OnDelete", "{everynode.io/rollout-policy: p}, generation: 2", "desiredNumberScheduled: 3, updatedNumberScheduled: 1, numberAvailable: 3", "Progressing 1 of 3 pods are of the last template"},
		{"OnDelete", "{everynode.io/rollout-policy: p}, generation: 2", "desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3", "Healthy 3 pods are available"},
		{"OnDelete", "{}, generation: 3", "numberAvailable: 3", "Progressing the last change of the DaemonSet is not observed yet"},
		// A condition of somebody else: the engine writes two, and this is not one of them.
		{"OnDelete", "{}, generation: 2", "conditions: [{type: Progressing, status: 'False', reason: X, message: x}]", "Healthy 0 of 0 pods are of the last template; the others wait to be deleted"},
	} {
		text := fmt.Sprintf("{metadata: {name: agent, annotations: %s}, spec: {updateStrategy: {type: %s}}, status: {observedGeneration: 2, %s}}", c.meta, c.strategy, c.status)
		var object map[string]any
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Fatal(err)
		}
		state, message := health(t, script(t, "daemonset.lua"), integers(object).(map[string]any))
		if got := state + " " + message; got != c.want {
			t.Errorf("%s\nis   %s\nwant %s", text, got, c.want)
		}
	}
}

package verbs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"everynode/internal/cli/console"
	"everynode/internal/view"
)

// undoFlags are the flags of `rollout undo` that other verbs do not have.
type undoFlags struct {
	patch, write bool
	to           int64
	output       string
}

// addUndo adds to the command what changes the DaemonSet's template, which no other verb does.
func (cmd rolloutCommands) addUndo(c *cobra.Command, f *rolloutFlags) {
	u := undoFlags{}
	abort := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := u.check(c.Flags().Changed); err != nil {
			return err
		}
		if !u.patch {
			return abort(c, args)
		}
		t, err := cmd.target(f, args[0])
		if err != nil {
			return err
		}
		return t.undo(c.Context(), &u)
	}
	flags := c.Flags()
	flags.BoolVar(&u.patch, "patch", false, "abort nothing: show what would have to change in the template of the DaemonSet, to be put into its manifest")
	flags.BoolVar(&u.write, "write", false, "with --patch: write it into the DaemonSet, too, once it is shown")
	flags.Int64Var(&u.to, "to-revision", 0, "with --patch: go to the revision of this number (default: the stable one, or the one before it if no release is under way)")
	console.OutputFlag(c, &u.output)
}

func (u *undoFlags) check(given func(string) bool) error {
	for _, name := range []string{"write", "to-revision", "output"} {
		if given(name) && !u.patch {
			return console.Usage(fmt.Errorf("--%s is for --patch: without it nodes go back to the stable revision, and the template stays", name))
		}
	}
	switch {
	case given("wait") && u.patch, given("release") && u.patch:
		return console.Usage(errors.New("--wait and --release are for requests to the engine; --patch is about the template alone"))
	case given("to-revision") && u.to < 1:
		return console.Usage(fmt.Errorf("--to-revision %d: give a number that `everynode rollout history` shows", u.to))
	}
	return nil
}

// undoing is a change of the template to that of an older revision.
type undoing struct {
	ds       *appsv1.DaemonSet
	to       *appsv1.ControllerRevision
	template map[string]any // the template of to, as a patch that replaces the current one
	changes  []string       // one or two lines for each field, with - or + in front
}

// undo shows the change of the template, and with --write also writes it.
func (t *rolloutTarget) undo(ctx context.Context, u *undoFlags) error {
	r, err := t.read(ctx)
	if err != nil {
		return err
	}
	if u.write && u.to == 0 && r.through() {
		return fmt.Errorf("no release of %s is under way, so --write needs the revision to go to: give --to-revision N; `%s` shows them", t, r.command("history", ""))
	}
	shown, err := t.undoing(ctx, r, u.to)
	if err != nil {
		return err
	}
	if u.write {
		t.explain("kubectl rollout undo --namespace %s daemonset/%s --to-revision %d", t.namespace, t.name, shown.to.Revision)
	}
	if err := t.console.Print(u.output, shown.document(), func() error { return t.showUndo(r, shown, u) }); err != nil {
		return err
	}
	if !u.write || len(shown.changes) == 0 {
		return nil
	}
	if err := t.writeUndo(ctx, r, shown); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.console.Err, "written: the template of %s is that of revision %d\n", t, shown.to.Revision)
	return err
}

// undoing returns the change to the revision of that number. 0 means the one that undoTo chooses.
func (t *rolloutTarget) undoing(ctx context.Context, r *release, number int64) (*undoing, error) {
	ds, err := t.sets.AppsV1().DaemonSets(t.namespace).Get(ctx, t.name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read DaemonSet %s: %w", t, err)
	}
	all, err := t.revisions(ctx)
	if err != nil {
		return nil, err
	}
	to, err := r.undoTo(all, number)
	if err != nil {
		return nil, err
	}
	data, err := view.RevisionData(ds)
	if err != nil {
		return nil, err
	}
	now, err := templateIn(data)
	if err != nil {
		return nil, fmt.Errorf("read the template of DaemonSet %s: %w", t, err)
	}
	template, err := templateIn(to.Data.Raw)
	if err != nil {
		return nil, fmt.Errorf("read the template in ControllerRevision %s/%s: %w", t.namespace, to.Name, err)
	}
	return &undoing{ds, to, template, changed(now, template)}, nil
}

// undoTo returns the revision to go back to. all are those that still exist, the newest first. If number is 0 it is
// the stable one during a release, and otherwise the newest that is not stable.
func (r *release) undoTo(all []appsv1.ControllerRevision, number int64) (*appsv1.ControllerRevision, error) {
	hash := func(v *appsv1.ControllerRevision) string { return v.Labels[appsv1.ControllerRevisionHashLabelKey] }
	var numbers []string
	for i := range all {
		v := &all[i]
		numbers = append(numbers, fmt.Sprint(v.Revision))
		switch {
		case number > 0 && v.Revision == number,
			number == 0 && !r.through() && hash(v) == r.state.Stable,
			number == 0 && r.through() && hash(v) != r.state.Stable:
			return v, nil
		}
	}
	switch {
	case number > 0:
		return nil, fmt.Errorf("--to-revision %d: it is not kept; these are: %s", number, cmp.Or(strings.Join(numbers, ", "), "none"))
	case r.through():
		return nil, errors.New("there is no older revision to go back to: spec.revisionHistoryLimit of the DaemonSet says how many are kept")
	}
	return nil, fmt.Errorf("the ControllerRevision of the stable revision %s is gone, and its template with it: give --to-revision N for one that `everynode rollout history` shows", r.state.Stable)
}

// document returns the patch as a file, for kustomize or `kubectl patch --patch-file`.
func (d *undoing) document() map[string]any {
	return map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": map[string]any{"template": d.template},
		"metadata": map[string]any{"namespace": d.ds.Namespace, "name": d.ds.Name}}
}

// showUndo prints the change for people.
func (t *rolloutTarget) showUndo(r *release, d *undoing, u *undoFlags) error {
	to := r.revision(d.to.Labels[appsv1.ControllerRevisionHashLabelKey])
	if len(d.changes) == 0 {
		_, err := fmt.Fprintf(t.console.Out, "%s: the template is that of %s already\n", t, to)
		return err
	}
	lines := append([]string{fmt.Sprintf("%s: to the template of %s", t, to)}, d.changes...)
	width, _ := console.WidthOf(t.console.Out)
	lines = append(lines, console.Wrapped(r.afterUndo(d), width)...)
	if by := writersOf(d.ds); len(by) > 0 {
		lines = append(lines, console.Wrapped("The template was written by "+strings.Join(by, ", ")+": where that takes it from git, revert it there, or it comes again", width)...)
	}
	if !u.write {
		lines = append(lines, "Nothing is written. As a patch for git, or into the cluster:")
		for _, how := range []string{"-o yaml", "--write"} {
			lines = append(lines, "    "+r.command("undo", fmt.Sprintf("--patch --to-revision %d %s", d.to.Revision, how)))
		}
	}
	_, err := fmt.Fprintln(t.console.Out, strings.Join(lines, "\n"))
	return err
}

// afterUndo says what the change does to pods.
func (r *release) afterUndo(d *undoing) string {
	switch stable := d.to.Labels[appsv1.ControllerRevisionHashLabelKey] == r.state.Stable; {
	case stable && r.state.Back && r.Status.Nodes.Exposed == 0:
		return "No pod moves by it: all nodes that can have gone back"
	case stable:
		return "With it all nodes go back at once, without waves"
	}
	return "It is a release of its own, and goes in the policy's waves"
}

// writersOf returns the programs that have written the template, not those that wrote only other fields.
func writersOf(ds *appsv1.DaemonSet) (names []string) {
	for _, m := range ds.ManagedFields {
		var owned struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		if _, writes := owned.Spec["f:template"]; writes && !slices.Contains(names, m.Manager) {
			names = append(names, m.Manager)
		}
	}
	slices.Sort(names)
	return names
}

// writeUndo writes exactly what was shown: it is an error if the template, or what it would become, has changed
// since. Other changes, such as of the status, do not matter.
func (t *rolloutTarget) writeUndo(ctx context.Context, r *release, shown *undoing) error {
	d := shown
	for range askTimes {
		data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": d.ds.UID, "resourceVersion": d.ds.ResourceVersion},
			"spec": map[string]any{"template": d.template}})
		if err != nil {
			return fmt.Errorf("encode the patch: %w", err)
		}
		_, err = t.sets.AppsV1().DaemonSets(t.namespace).Patch(ctx, t.name, types.StrategicMergePatchType, data, metav1.PatchOptions{FieldManager: asker})
		switch {
		case err == nil:
			return nil
		case apierrors.IsForbidden(err):
			return fmt.Errorf("write DaemonSet %s: %w; nothing is written. `everynode rollout abort` takes a release back without that right", t, err)
		case !apierrors.IsConflict(err):
			return mayBeDone(fmt.Errorf("write DaemonSet %s: %w", t, err), fmt.Sprintf("whether it was written is not known. See `%s`",
				t.typed("kubectl rollout history --namespace %s daemonset/%s", t.namespace, t.name)))
		}
		if d, err = t.undoing(ctx, r, shown.to.Revision); err != nil {
			return err
		}
		if !slices.Equal(d.changes, shown.changes) || d.ds.UID != shown.ds.UID {
			return fmt.Errorf("the template of %s has changed since the patch was shown, so nothing is written: look at it again", t)
		}
	}
	return fmt.Errorf("DaemonSet %s changes all the time, so nothing is written: try again", t)
}

// templateIn returns the template in a revision's patch. It leaves out the rest of the patch: nothing may be written
// that was not shown.
func templateIn(data []byte) (map[string]any, error) {
	var patch struct {
		Spec struct{ Template map[string]any }
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // keep large numbers exact
	if err := d.Decode(&patch); err != nil {
		return nil, err
	}
	if patch.Spec.Template == nil {
		return nil, errors.New("there is none")
	}
	patch.Spec.Template["$patch"] = "replace"
	return patch.Spec.Template, nil
}

// changed returns the differences between two templates, one or two lines for each field.
func changed(from, to map[string]any) (lines []string) {
	before, after := map[string]string{}, map[string]string{}
	names, later := map[string][]string{}, map[string][]string{}
	flatten(before, names, "spec.template", from)
	flatten(after, later, "spec.template", to)
	for path := range names {
		if was, is := common(names[path], later[path]), common(later[path], names[path]); !slices.Equal(was, is) {
			before[path], after[path] = "in the order "+strings.Join(was, ", "), "in the order "+strings.Join(is, ", ")
		}
	}
	paths := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if before[path] == after[path] {
			continue
		}
		if text := before[path]; text != "" {
			lines = append(lines, "- "+path+": "+text)
		}
		if text := after[path]; text != "" {
			lines = append(lines, "+ "+path+": "+text)
		}
	}
	return lines
}

// common returns the names that are also among others, in their order.
func common(names, others []string) (both []string) {
	for _, name := range names {
		if slices.Contains(others, name) {
			both = append(both, name)
		}
	}
	return both
}

// flatten adds each value by its path. It names items of a list by their names, so that a new item in front does not
// make all the others differ. names gets the items' names in their order.
func flatten(to map[string]string, names map[string][]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			if key != "$patch" && below != nil {
				flatten(to, names, path+"."+key, below)
			}
		}
		if len(v) > 0 {
			return
		}
	case []any:
		for i, below := range v {
			name := nameIn(v, i)
			names[path] = append(names[path], name)
			flatten(to, names, path+"["+name+"]", below)
		}
		if len(v) > 0 {
			return
		}
	}
	var text strings.Builder
	plain := json.NewEncoder(&text)
	plain.SetEscapeHTML(false) // people read it: a && b
	if err := plain.Encode(value); err != nil {
		panic(err) // it was decoded from JSON
	}
	to[path] = strings.TrimSuffix(text.String(), "\n")
}

// nameIn returns the name of an item, or its index if not all items have unique names.
func nameIn(list []any, at int) string {
	seen := map[string]bool{}
	for _, item := range list {
		fields, _ := item.(map[string]any)
		name, _ := fields["name"].(string)
		if name == "" || seen[name] {
			return fmt.Sprint(at)
		}
		seen[name] = true
	}
	name, _ := list[at].(map[string]any)["name"].(string)
	return name
}

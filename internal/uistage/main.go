// Command uistage serves the page of `everynode ui` with a made-up fleet, for the tests of the page in a browser (ui/browser):
// large, empty, or with names and texts that would do harm if the page took them for markup.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"everynode/internal/fleetview"
	"everynode/internal/ui"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("uistage", flag.ContinueOnError)
	name := flags.String("scene", "small", "what is shown: "+strings.Join(names(), ", "))
	address := flags.String("listen", "127.0.0.1:0", "where")
	token := flags.String("token", "", "of the page (empty: a new one)")
	pace := flags.Duration("pace", 500*time.Millisecond, "how often something changes")
	still := flags.Bool("still", false, "nothing changes")
	made := flags.Int("made", 0, "how many states are made before the first is shown, to go forth and back in them (0: each is made when it is shown)")
	replay := flags.String("replay", "", "a recording, in place of a scene")
	from := flags.Duration("from", 0, "where the recording begins; it stands there")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o, err := scened(*name, *pace, *still, *made)
	if *replay != "" {
		o, err = replayed(*replay, *from)
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	if *token == "" {
		*token = string(ui.NewToken())
	}
	s := ui.New(o, ui.Token(*token))
	fmt.Println(s.URL(l))
	return s.Serve(ctx, l)
}

// scened returns the options for a made-up fleet.
func scened(name string, pace time.Duration, still bool, made int) (ui.Options, error) {
	i := slices.IndexFunc(scenes(), func(s scene) bool { return s.name == name })
	if i < 0 {
		return ui.Options{}, fmt.Errorf("no scene %q", name)
	}
	f := &fleet{scene: scenes()[i], pace: pace, still: still, began: time.Now()}
	for n := range made {
		f.made = append(f.made, f.scene.at(n, f.began, f.began.Add(time.Duration(n)*pace)))
	}
	o := ui.Options{Source: f, Program: "everynode", Errors: os.Stderr}
	if f.scene.actions {
		o.Act = f.act
	}
	return o, nil
}

// slowly is the speed at which a recording is played: so slow that a test sees no change.
const slowly = 0.0001

// replayed returns the options for a recorded fleet.
func replayed(name string, from time.Duration) (ui.Options, error) {
	file, err := os.Open(name)
	if err != nil {
		return ui.Options{}, err
	}
	recording, err := ui.Read(file, ui.Playing{Speed: slowly, From: from})
	return ui.Options{Source: recording, Program: "everynode", Replay: name, Errors: os.Stderr}, errors.Join(err, file.Close())
}

func names() (all []string) {
	for _, s := range scenes() {
		all = append(all, s.name)
	}
	return all
}

// fleet is a ui.Source.
type fleet struct {
	scene scene
	pace  time.Duration
	still bool
	began time.Time
	made  []*fleetview.State // states that were made in advance; nil: none
}

// state returns the state after n changes.
func (f *fleet) state(n int) *fleetview.State {
	if len(f.made) == 0 {
		return f.scene.at(n, f.began, time.Now())
	}
	last := len(f.made) - 1
	if n %= max(1, 2*last); n > last {
		n = 2*last - n
	}
	return f.made[n]
}

// Follow shows one state after the other.
func (f *fleet) Follow(ctx context.Context, show func(*fleetview.State), _ func(string)) error {
	tick := time.NewTicker(f.pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		if !f.still || n == 0 {
			show(f.state(n))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Node makes up the details of a node.
func (f *fleet) Node(_ context.Context, name string) (*fleetview.NodeDetail, error) {
	s := f.scene.at(0, f.began, time.Now())
	place := slices.IndexFunc(s.Nodes, func(n fleetview.Node) bool { return n.Name == name })
	if place < 0 {
		return nil, fmt.Errorf("node %s: %w", name, fleetview.ErrUnknown)
	}
	began := f.began.Add(-50 * time.Hour).UnixMilli()
	d := &fleetview.NodeDetail{Name: name, Created: began, System: []string{"v1.37.2", "Debian GNU/Linux 12 (bookworm)", "amd64", "containerd://2.4.2"},
		Taints: []string{"example.com/dedicated=" + f.scene.harm + ":NoSchedule"}, Rows: []fleetview.Row{},
		Conditions: []fleetview.Condition{{Type: "Ready", Status: "True", Reason: "KubeletReady", Message: "kubelet is posting ready status", Since: began},
			{Type: "DiskPressure", Status: "True", Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure " + f.scene.harm, Since: began, Bad: true}},
		Events: []fleetview.Event{{At: f.began.UnixMilli(), Type: "Warning", Reason: "FreeDiskSpaceFailed", Message: "failed to garbage collect required amount of images " + f.scene.harm, From: "kubelet", Count: 3}}}
	for _, set := range s.Sets {
		c := set.Cells[place]
		row := fleetview.Row{Set: set.Key(), Pod: set.Name + "-x7k2p", State: int(c.State), Reason: s.Reasons[c.Reason].Name, Why: s.Reasons[c.Reason].Sentence, Since: f.began.Add(-7 * time.Minute).UnixMilli()}
		if c.State == fleetview.Failing {
			row.Detail, row.Log = f.scene.text(), true
			row.Commands = []string{"kubectl logs -n " + set.Namespace + " " + row.Pod + " -c main --previous", "kubectl rollout undo daemonset/" + set.Name + " -n " + set.Namespace}
			row.Change = "Waits for the pod to become ready: kubectl describe pod, kubectl logs."
		}
		d.Rows = append(d.Rows, row)
	}
	return d, nil
}

// Events returns one event, about a refused write.
func (f *fleet) Events(context.Context, string, string) (*fleetview.Events, error) {
	return &fleetview.Events{Events: []fleetview.Event{{At: f.began.Add(-time.Minute).UnixMilli(), Type: "Warning", Reason: "FailedCreate",
		Message: "admission webhook denied the request: image is not signed " + f.scene.harm, From: "everynode", Count: 4}}}, nil
}

// Log returns the log of a program that does not find its file.
func (f *fleet) Log(context.Context, string, string, string) (*fleetview.Log, error) {
	return &fleetview.Log{Pod: "agent-x7k2p", Container: "main", Previous: true, Lines: []string{
		"2026-11-29T01:14:02Z level=info msg=\"agent 2.4.1 starts\"",
		"2026-11-29T01:14:02Z level=info msg=\"reading /etc/agent/agent.yaml\" " + f.scene.harm,
		"2026-11-29T01:14:02Z level=fatal msg=\"open /etc/agent/agent.yaml: no such file or directory\""}}, nil
}

// act does nothing but report what it was asked to do.
func (f *fleet) act(_ context.Context, namespace, name string, a fleetview.Action) (string, error) {
	if a.Release != release {
		return "", errors.New("nothing was done: this was about another release")
	}
	return fmt.Sprintf("%s of release %d of %s for %s/%s %s", a.Verb, a.Release, a.Target, namespace, name, a.Wave), nil
}

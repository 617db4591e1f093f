package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// servingVersions returns the versions of e2e/serving that have images. A kubelet waits longer and longer before it starts an
// image again that the same pod has run a few minutes before, so there are many.
func servingVersions() []string {
	all := []string{"crash"}
	for i := range goodVersions {
		all = append(all, goodVersion(i))
	}
	return all
}

const goodVersions = 16

// goodVersion returns the version for an update by its number. One in four is slow to end.
func goodVersion(turn int) string {
	i := turn % goodVersions
	if i%4 == 3 {
		return fmt.Sprintf("slow-%d", i)
	}
	return strconv.Itoa(i)
}

// servingImage returns the image of a version of e2e/serving.
func servingImage(version string) string { return "example.com/serving:" + version }

// servingImages builds the images of e2e/serving and loads them into the nodes.
func servingImages(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: serving-images")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	root := filepath.Join(clusterOf(ts).workDir, ".serving")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", filepath.Join(root, "serving"), "./serving")
	if out, err := build.CombinedOutput(); err != nil {
		ts.Fatalf("build e2e/serving: %v\n%s", err, out)
	}
	for _, version := range servingVersions() {
		ts.Check(os.WriteFile(filepath.Join(root, "version"), []byte(version), 0o644))
		archive := ts.MkAbs("serving-" + version + ".tar")
		ts.Check(ts.Exec("everynode", "image", "build", root, "--name", servingImage(version), "--entrypoint", "/serving", "--output", archive))
		ts.Check(ts.Exec("everynode", "image", "load", archive))
		ts.Check(os.Remove(archive))
	}
}

// answer is what a client got from the pod of a node. Without a version, nobody listened, as err says.
type answer struct {
	began   time.Time
	version string
	err     error
}

const (
	askEvery    = 20 * time.Millisecond
	askPatience = time.Second
)

// clients ask the pod of each node all the time, one client a node.
type clients struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	answers map[string][]answer // by node, in the order of the requests
}

// askAll starts the clients of agents at these addresses, by node.
func askAll(addresses map[string]string) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{cancel: cancel, answers: map[string][]answer{}}
	for node, address := range addresses {
		c.group.Go(func() { c.askOne(ctx, node, address) })
	}
	return c
}

func (c *clients) askOne(ctx context.Context, node, address string) {
	client := &http.Client{Timeout: askPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		next := time.After(askEvery)
		a := answer{began: time.Now()}
		a.version, a.err = ask(ctx, client, address)
		// No answer in time says nothing: the machine may be busy.
		var timeout net.Error
		if a.err == nil || !errors.As(a.err, &timeout) || !timeout.Timeout() {
			c.mu.Lock()
			c.answers[node] = append(c.answers[node], a)
			c.mu.Unlock()
		}
		<-next
	}
}

func ask(ctx context.Context, client *http.Client, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// stop ends the clients and returns what they got.
func (c *clients) stop() map[string][]answer {
	c.cancel()
	c.group.Wait()
	return c.answers
}

// outage is a time in which nobody listened on a node, as requests found it: from the first failed one to the last.
type outage struct {
	node     string
	from, to time.Time
	err      error // of the last
}

func (o outage) String() string {
	return fmt.Sprintf("%s %s to %s (%v)", o.node, o.from.Format("15:04:05.000"), o.to.Format("15:04:05.000"), o.err)
}

func outagesOf(answers map[string][]answer) (all []outage) {
	for node, list := range answers {
		var now *outage
		for _, a := range list {
			switch {
			case a.version != "":
				now = nil
			case now == nil:
				all = append(all, outage{node, a.began, a.began, a.err})
				now = &all[len(all)-1]
			default:
				now.to, now.err = a.began, a.err
			}
		}
	}
	slices.SortFunc(all, func(a, b outage) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.node, b.node)) })
	return all
}

// atOnce returns outages of different nodes that overlap, when more than most do. Each node was down before the other was, and
// still after: none was merely asked late.
func atOnce(all []outage, most int) []outage {
	for i, o := range all {
		same := []outage{o}
		for _, before := range all[:i] {
			if before.node != o.node && !before.to.Before(o.from) {
				same = append(same, before)
			}
		}
		if len(same) > most {
			return same
		}
	}
	return nil
}

// claim is what a status of a DaemonSet says: how many nodes have the pod that its template asks for, and how many have an
// available one.
type claim struct {
	at                          time.Time // when it was seen
	until                       time.Time // when the template was changed next; zero: never
	version                     string    // of the template
	desired, updated, available int
}

// falseClaim says why a claim is not true, judged by the next answer of each node; "" if it may be true. A status does not say
// which pods are available. So as few available pods as possible count as being of the new version: those for which there are not
// enough old pods.
func falseClaim(c claim, answers map[string][]answer) string {
	atLeast, serve, got := c.available-(c.desired-c.updated), 0, ""
	for node, list := range answers {
		i, _ := slices.BinarySearchFunc(list, c.at, func(a answer, at time.Time) int { return a.began.Compare(at) })
		if i == len(list) || !c.until.IsZero() && !list[i].began.Before(c.until) {
			return "" // nobody asked before everything had changed
		}
		if list[i].version == c.version {
			serve++
		}
		got += fmt.Sprintf(" %s: %q", node, list[i].version)
	}
	if serve >= atLeast {
		return ""
	}
	return fmt.Sprintf("at %s: of %d nodes %d updated, %d available, so at least %d serve version %s; the clients got%s",
		c.at.Format("15:04:05.000"), c.desired, c.updated, c.available, atLeast, c.version, got)
}

// TestClients shows that the clients of updates-in-place find what they should.
func TestClients(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	answers := map[string][]answer{
		"a": {{at(0), "1", nil}, {at(20), "", nil}, {at(40), "", nil}, {at(60), "2", nil}, {at(80), "2", nil}},
		"b": {{at(10), "1", nil}, {at(30), "1", nil}, {at(50), "", nil}, {at(70), "2", nil}},
	}
	if all := outagesOf(answers); len(all) != 2 || len(atOnce(all, 1)) != 0 {
		t.Errorf("one after the other: %v, at once %v", all, atOnce(all, 1))
	}
	for _, tc := range []struct {
		claim claim
		wrong bool
	}{
		{claim{at: at(15), version: "2", desired: 2, updated: 1, available: 1}, false},
		{claim{at: at(15), version: "2", desired: 2, updated: 1, available: 2}, true}, // the old container of a still counts
		{claim{at: at(55), version: "2", desired: 2, updated: 2, available: 1}, false},
		{claim{at: at(45), version: "2", desired: 2, updated: 2, available: 2}, true}, // b is down
		{claim{at: at(65), version: "2", desired: 2, updated: 2, available: 2}, false},
		{claim{at: at(45), until: at(46), version: "2", desired: 2, updated: 2, available: 2}, false}, // the template changed: nobody can tell
	} {
		if text := falseClaim(tc.claim, answers); (text != "") != tc.wrong {
			t.Errorf("%+v: %q", tc.claim, text)
		}
	}
	answers["b"][1].version = ""
	if all := outagesOf(answers); len(atOnce(all, 1)) != 2 {
		t.Errorf("both down at 30 ms to 40 ms: %v", all)
	}
}

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// updateCosts updates a DaemonSet of e2e/serving, first in place, then by deletion, and prints for both what the update of one
// pod cost: write requests for pods, as counted by the API server, and the time in which nobody listened on its node.
func updateCosts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: update-costs DAEMONSET HOST-PORT COUNT")
	}
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	withServing(ts, args[0], func(ctx context.Context, p *inPlaceRun, _ *killer) {
		ts.Check(p.updateBy(ctx, "InPlaceIfPossible"))
		inPlace, err := p.cost(ctx, args[1], count)
		ts.Check(err)
		ts.Check(p.updateBy(ctx, nil))
		deleted, err := p.cost(ctx, args[1], count)
		ts.Check(err)
		fmt.Fprintf(ts.Stdout(), "%-14s %s\n%-14s %s\n", "in place", inPlace, "by deletion", deleted)
		fmt.Fprintf(ts.Stdout(), "%-14s %.1f times fewer requests, %.1f times shorter\n", "ratio", deleted.writes/inPlace.writes, deleted.down.Seconds()/inPlace.down.Seconds())
	})
}

// cost is what the update of one pod costs.
type cost struct {
	pods       int           // that were updated
	writes     float64       // write requests for pods, for each
	down, most time.Duration // time in which nobody listened on the node: median and maximum
}

func (c cost) String() string {
	return fmt.Sprintf("%d pods updated; %.1f requests that write for each; nobody listens for %.2f s (median), %.2f s (most)", c.pods, c.writes, c.down.Seconds(), c.most.Seconds())
}

// cost makes count updates one after the other, and waits for each to complete.
func (p *inPlaceRun) cost(ctx context.Context, port string, count int) (cost, error) {
	asked, err := p.ask(ctx, port)
	if err != nil {
		return cost{}, err
	}
	defer asked.stop()
	before, err := p.podWrites(ctx)
	if err != nil {
		return cost{}, err
	}
	for range count {
		if err := errors.Join(p.set(ctx, p.nextGood()), p.through(ctx)); err != nil {
			return cost{}, err
		}
	}
	after, err := p.podWrites(ctx)
	if err != nil {
		return cost{}, err
	}
	var times []time.Duration
	for _, o := range outagesOf(asked.stop()) {
		times = append(times, o.to.Sub(o.from)+askEvery)
	}
	slices.Sort(times)
	p.mu.Lock()
	pods := count * int(p.last.Status.DesiredNumberScheduled)
	p.mu.Unlock()
	if len(times) < pods/2 {
		return cost{}, fmt.Errorf("the clients saw %d outages in the updates of %d pods", len(times), pods)
	}
	return cost{pods, (after - before) / float64(pods), times[len(times)/2], times[len(times)-1]}, nil
}

// podWrites returns how many write requests for pods the API server has answered.
func (p *inPlaceRun) podWrites(ctx context.Context) (sum float64, err error) {
	text, err := p.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	for _, line := range podWrite.FindAllSubmatch(text, -1) {
		n, err := strconv.ParseFloat(string(line[1]), 64)
		if err != nil {
			return 0, fmt.Errorf("the API server's metrics: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// podWrite matches a line of the API server's metrics that counts write requests for pods. Labels are sorted by name.
var podWrite = regexp.MustCompile(`(?m)^apiserver_request_total\{.*dry_run="",.*resource="pods",.*verb="(?:POST|PUT|PATCH|APPLY|DELETE)",.*\} (\S+)$`)

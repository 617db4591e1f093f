package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// The recordings of the docs are of clusters as they are, without what a made-up one is given.
const (
	recordedRelease = "../../docs/pictures/release.fleet.gz"     // 600 simulated nodes, releases in waves
	recordedNodes   = "../../docs/pictures/three-nodes.fleet.gz" // three real ones, without a policy
)

// A release that has stopped in its canary wave: each view of it.
func TestRecordedRelease(t *testing.T) {
	p := open(t).show(t, true, "-replay", recordedRelease, "-from", "3m45s")
	p.wait(".live", "recording")
	p.wait(".lead", "600 nodes")
	p.wait(".finding", "CrashLoopBackOff")
	p.accessible("recorded-fleet-dark")
	p.goTo("#/set/default/audit-agent")
	p.wait(".phase", "Halted in wave canary")
	p.wait(".wave.open", "canary")
	p.wait(".lead", "of 600 nodes have it")
	p.wait(".timeline", "failed")
	if shown := value[bool](p, "document.querySelector('.finding button') !== null"); shown {
		t.Error("a log is offered that was not recorded")
	}
	p.accessible("recorded-halted-dark")
	p.do(chromedp.Click(chromedp.CSS(".finding .who a")))
	p.wait("h1", "sim-75")
	p.wait(".row.failing", "CrashLoopBackOff")
	p.wait("table", "MemoryPressure")
	if said := p.text(".log-error"); said != "" {
		t.Errorf("a log is asked for that was not recorded: %s", said)
	}
	p.accessible("recorded-node-dark")
	p.quiet()
}

// What `outages --record` keeps: the same bad version, where releases are in waves and where they are not.
func TestRecordedOutages(t *testing.T) {
	s := open(t)
	for name, want := range map[string]string{"bad-image-everynode": "Halted in wave first", "bad-image-kubernetes": "updating", "label-lost-everynode": "Idle"} {
		p := s.show(t, true, "-replay", "../../docs/pictures/"+name+".fleet.gz", "-from", "20s")
		p.wait(".lead", "120 nodes")
		p.do(chromedp.Click(chromedp.CSS(".sets li .set-link")))
		p.wait(".phase", want)
		p.accessible("recorded-" + name + "-dark")
		p.quiet()
	}
}

// A cluster without policies: what belongs to a release in waves is not there, and from the fleet to the line of the log it is two clicks.
func TestRecordedNodes(t *testing.T) {
	p := open(t).show(t, false, "-replay", recordedNodes, "-from", "20s")
	p.wait(".live", "recording")
	p.wait(".lead", "3 nodes")
	p.accessible("recorded-three-light")
	p.goTo("#/set/default/audit-agent")
	p.wait("h1", "audit-agent")
	p.wait(".timeline", "revision 2")
	p.wait(".finding", "exit code 3")
	if shown := value[int](p, "document.querySelectorAll('.rail, .wave, .actions').length"); shown != 0 {
		t.Errorf("%d things of a release in waves are shown, and there is none", shown)
	}
	p.do(chromedp.Click(chromedp.CSS(".finding button")))
	p.wait(".log pre", "fatal: /etc/audit/agent.conf: no such file")
	p.accessible("recorded-no-policy-light")
	p.do(chromedp.Click(chromedp.CSS(".finding .who a")))
	p.wait("h1", "node-1")
	p.wait(".row.failing .log pre", "fatal: /etc/audit/agent.conf: no such file")
	p.accessible("recorded-real-node-light")
	p.quiet()
}

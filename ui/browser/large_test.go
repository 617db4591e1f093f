package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// 5,000 nodes and 20 DaemonSets are shown and can be used.
func TestLarge(t *testing.T) {
	p := open(t).show(t, true, "-scene", "large")
	p.wait(".lead", "5,000 nodes")
	p.accessible("large-dark")
	before := p.text(".legend")
	p.until("document.querySelector('.legend').innerText !== " + quoted(before))
	p.do(chromedp.KeyEvent("/"), chromedp.KeyEvent("ip-10-41-3-1"))
	p.wait("[role=option]", "ip-10-41-3-1")
	p.quiet()
}

func quoted(s string) string {
	out := "`"
	for _, r := range s {
		if r == '`' || r == '\\' || r == '$' {
			out += "\\"
		}
		out += string(r)
	}
	return out + "`"
}

// frames measures three seconds of the page while the fleet changes: how far frames are apart, and how many changes came. A machine that is
// busy with other things has long frames whatever the page does.
const frames = `new Promise((done) => {
  const changes = () => performance.getEntriesByName('changes')[0]?.detail ?? 0
  const apart = [], from = changes()
  let last = performance.now(), end = last + 3000
  const tick = (now) => {
    apart.push(now - last); last = now
    if (now < end) return requestAnimationFrame(tick)
    apart.sort((x, y) => x - y)
    done({frames: apart.length, changes: changes() - from, longest: apart.at(-1), late: apart[Math.floor(0.95 * apart.length)], over: apart.filter((ms) => ms > 50).length})
  }
  requestAnimationFrame(tick)
})`

// BenchmarkFrames shows 5,000 nodes that change sixty times a second, and measures how long after its data has come, before it is read, the first
// picture is painted, and frames. It says what this machine does; it is not a test, as another may be slower.
func BenchmarkFrames(b *testing.B) {
	s := open(b)
	p, err := Serve(b.Context(), s.stage, "-scene", "large", "-pace", "16ms", "-made", "200")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	tab, err := s.Open(p.URL, 1440, 900, true)
	if err != nil {
		b.Fatal(err)
	}
	defer tab.Close()
	if err := chromedp.Do(tab.Ctx, chromedp.WaitVisible(chromedp.CSS(".lead"))); err != nil {
		b.Fatal(err)
	}
	const painted = `new Promise((done) => { const look = () => { const p = performance.getEntriesByName('painted')[0]
		p ? done(p.startTime - performance.getEntriesByName('state')[0].startTime) : requestAnimationFrame(look) }; look() })`
	first, err := chromedp.Run(tab.Ctx, chromedp.Evaluate[float64](painted, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		got, err := chromedp.Run(tab.Ctx, chromedp.Evaluate[struct {
			Frames  float64 `json:"frames"`
			Changes float64 `json:"changes"`
			Longest float64 `json:"longest"`
			Late    float64 `json:"late"`
			Over    float64 `json:"over"`
		}](frames, chromedp.EvalAwaitPromise))
		if err != nil {
			b.Fatal(err)
		}
		if got.Changes == 0 {
			b.Fatal("nothing has changed")
		}
		b.ReportMetric(first, "ms-first-picture")
		b.ReportMetric(got.Frames/3, "frames/s")
		b.ReportMetric(got.Changes/3, "changes/s")
		b.ReportMetric(got.Late, "ms-frame-p95")
		b.ReportMetric(got.Longest, "ms-frame-longest")
		b.ReportMetric(got.Over, "frames-over-50ms")
	}
}

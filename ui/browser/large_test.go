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

// frames measures three seconds of the page while the fleet changes: how far frames are apart. A machine that is busy with other
// things has long frames whatever the page does.
const frames = `new Promise((done) => {
  const apart = []
  let last = performance.now(), end = last + 3000
  const tick = (now) => {
    apart.push(now - last); last = now
    if (now < end) return requestAnimationFrame(tick)
    apart.sort((x, y) => x - y)
    done({frames: apart.length, longest: apart.at(-1), late: apart[Math.floor(0.95 * apart.length)]})
  }
  requestAnimationFrame(tick)
})`

// BenchmarkFrames shows 5,000 nodes that change sixty times a second, and measures how long after the data the first picture is there, and
// frames. It says what this machine does; it is not a test, as another may be slower.
func BenchmarkFrames(b *testing.B) {
	s := open(b)
	p, err := Serve(b.Context(), s.stage, "-scene", "large", "-pace", "16ms")
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
	first, err := chromedp.Run(tab.Ctx, chromedp.Evaluate[float64]("performance.getEntriesByName('drawn')[0].startTime - performance.getEntriesByName('state')[0].startTime"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		got, err := chromedp.Run(tab.Ctx, chromedp.Evaluate[struct {
			Frames  float64 `json:"frames"`
			Longest float64 `json:"longest"`
			Late    float64 `json:"late"`
		}](frames, chromedp.EvalAwaitPromise))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(first, "ms-first-picture")
		b.ReportMetric(got.Frames/3, "frames/s")
		b.ReportMetric(got.Late, "ms-frame-p95")
		b.ReportMetric(got.Longest, "ms-frame-longest")
	}
}

package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// axeSource is the accessibility checker, which npm installs.
const axeSource = "../../bin/ui/node_modules/axe-core/axe.min.js"

// shotsEnv names a folder for the screenshots; without it they go into bin/ui/shots.
const shotsEnv = "EVERYNODE_UI_SHOTS"

// studio is a browser and the program that serves made-up fleets.
type studio struct {
	*Browser
	stage string
	axe   string
	shots string
}

func open(t testing.TB) *studio {
	t.Helper()
	axe, err := os.ReadFile(axeSource)
	if err != nil {
		t.Skip("axe-core is not installed: make page-packages does it")
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(stop)
	b, err := Start(ctx)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(b.Close)
	s := &studio{Browser: b, stage: filepath.Join(t.TempDir(), "uistage"), axe: string(axe), shots: os.Getenv(shotsEnv)}
	build := exec.CommandContext(ctx, "go", "build", "-C", "../..", "-o", s.stage, "./internal/uistage")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s.shots == "" {
		s.shots = "../../bin/ui/shots"
	}
	if err := os.MkdirAll(s.shots, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// show opens the page of a scene.
func (s *studio) show(t *testing.T, dark bool, args ...string) *shown {
	t.Helper()
	p, err := Serve(t.Context(), s.stage, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	tab, err := s.Open(p.URL, 1440, 900, dark)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tab.Close)
	return &shown{t: t, Tab: tab, of: s, program: p}
}

// shown is a page that a test looks at.
type shown struct {
	*Tab
	t       *testing.T
	of      *studio
	program *Program
}

func (p *shown) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.Ctx, 30*time.Second)
	defer stop()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%v; the page has\n%s", err, p.text("body"))
	}
}

// value is that of an expression of JavaScript.
func value[T any](p *shown, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.Ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (p *shown) text(selector string) string {
	p.t.Helper()
	return value[string](p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// wait waits until what is selected has the text.
func (p *shown) wait(selector, part string) {
	p.t.Helper()
	p.until(fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))", selector, part))
}

// until waits until an expression is true.
func (p *shown) until(expression string) {
	p.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !value[bool](p, expression) {
		select {
		case <-limit.C:
			p.t.Fatalf("it did not come: %s; the page has\n%s", expression, p.text("body"))
		case <-tick.C:
		}
	}
}

func (p *shown) goTo(fragment string) {
	p.t.Helper()
	p.do(p.Go(fragment))
}

// accessible has axe-core check what is shown, and keeps a screenshot.
func (p *shown) accessible(name string) {
	p.t.Helper()
	picture, err := chromedp.Run(p.Ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.of.shots, name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
	if !value[bool](p, "typeof axe === 'object'") {
		value[any](p, p.of.axe+"; null")
	}
	wrong := value[[]string](p, `axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + v.help + ': ' + n.html.slice(0, 200) + ' ' + (n.any[0]?.message ?? ''))))`)
	for _, w := range wrong {
		p.t.Errorf("%s: %s", name, w)
	}
}

// quiet fails if the console has said anything.
func (p *shown) quiet() {
	p.t.Helper()
	for _, said := range p.Said() {
		p.t.Errorf("the console says %s", said)
	}
}

const firstSet = "#/set/monitoring/node-exporter"

// Each view, in light and dark: what it says, and that everybody can use it.
func TestViews(t *testing.T) {
	s := open(t)
	for _, dark := range []bool{false, true} {
		scheme := map[bool]string{false: "light", true: "dark"}[dark]
		p := s.show(t, dark, "-scene", "release", "-still")
		p.wait("h1", "All DaemonSets")
		p.wait(".lead", "3 nodes failing or down")
		p.wait(".finding", "CrashLoopBackOff")
		p.accessible("fleet-" + scheme)
		p.goTo(firstSet)
		p.wait("h1", "node-exporter")
		p.wait(".phase", "Halted in wave tenth")
		p.wait(".wave.open", "tenth")
		p.wait(".timeline", "revision 8 (7c9f5b88d4)")
		p.wait(".budget", "3 of 3")
		p.wait(".wave", "soak 30m · approval")
		p.wait(".finding .since", "7m")
		p.wait("td", "image is not signed")
		p.accessible("daemonset-" + scheme)
		p.do(chromedp.Click(chromedp.CSS(".finding button")))
		p.wait(".log pre", "open /etc/agent/agent.yaml: no such file or directory")
		p.do(chromedp.Click(chromedp.CSS(".tools > button.quiet")))
		p.wait("caption", "300 of 300 nodes")
		p.accessible("daemonset-table-" + scheme)
		p.do(chromedp.Click(chromedp.CSS(".finding .who a")))
		p.wait("h2", "4 DaemonSets here")
		p.wait(".row.failing .log pre", "no such file")
		p.wait("table", "DiskPressure")
		p.wait("table", "FreeDiskSpaceFailed ×3")
		p.wait(".taints", "example.com/dedicated=")
		p.until("[...document.querySelectorAll('.row .row-head')].length === 4 && [...document.querySelectorAll('.row .row-head')].every((r) => r.textContent.includes('for 7m'))")
		p.accessible("node-" + scheme)
		p.quiet()
	}
}

// In two clicks from the fleet to the line of the log that says why: the cell, and nothing else.
func TestTwoClicks(t *testing.T) {
	p := open(t).show(t, true, "-scene", "small", "-still")
	p.wait(".legend", "failing")
	p.do(chromedp.Click(chromedp.CSS(".finding .who a")))
	p.wait(".row.failing", "CrashLoopBackOff")
	p.wait(".row.failing .log pre", "level=fatal")
	p.quiet()
}

// tabTo presses the tabulator until what is selected has the focus.
func (p *shown) tabTo(selector string) {
	p.t.Helper()
	for range 80 {
		p.do(chromedp.KeyEvent(kb.Tab))
		if value[bool](p, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
			return
		}
	}
	p.t.Fatalf("%s is not reached with the tabulator", selector)
}

// All of it with the keyboard alone: nothing is clicked, and nothing is given the focus but by keys.
func TestKeyboard(t *testing.T) {
	p := open(t).show(t, true, "-scene", "release", "-still")
	p.wait("h1", "All DaemonSets")
	p.do(chromedp.KeyEvent("/"))
	p.until("document.activeElement.type === 'search'")
	p.do(chromedp.KeyEvent("node-exp"))
	p.wait("[role=option]", "monitoring/node-exporter")
	p.accessible("search-dark")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.wait("h1", "node-exporter")
	p.until("document.querySelectorAll('[role=option]').length === 0")
	p.until("document.activeElement.matches('main h1')")
	p.tabTo(".cells")
	p.do(chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowDown))
	p.wait("[aria-live=polite]", "ip-10-40-")
	p.do(chromedp.KeyEvent("n"))
	p.wait("[aria-live=polite]", "failing")
	p.accessible("keyboard-dark")
	// The log of what fails.
	p.tabTo(".finding button")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.wait(".log pre", "no such file")
	p.tabTo(".log pre")
	// The table is before the map.
	p.do(chromedp.KeyEvent("/"))
	p.until("document.activeElement.type === 'search'")
	p.tabTo(".tools > button.quiet")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.wait("caption", "300 of 300 nodes")
	p.tabTo(".table a")
	// And a node from the map.
	p.do(chromedp.KeyEvent("/"))
	p.until("document.activeElement.type === 'search'")
	p.tabTo(".cells")
	p.do(chromedp.KeyEvent("n"), chromedp.KeyEvent(kb.Enter))
	p.wait(".row.failing", "CrashLoopBackOff")
	p.until("document.activeElement.matches('main h1')")
	for _, want := range []string{".set", ".log pre", ".command button"} {
		p.tabTo(want)
	}
	p.quiet()
}

// In a small window the map is higher than what is seen of it, and the cell of the keyboard is seen all the same.
func TestTallMap(t *testing.T) {
	s := open(t)
	for name, width := range map[string]int64{"the view scrolls": 1000, "the page scrolls": 500} {
		p := s.show(t, false, "-scene", "large", "-still")
		p.wait(".lead", "5,000 nodes")
		p.do(chromedp.EmulateViewport(width, 420))
		p.until(fmt.Sprintf("innerWidth === %d && document.querySelector('.cells canvas').clientWidth < innerWidth", width))
		p.tabTo(".cells")
		const seen = "(() => { const r = document.querySelector('.cell').getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight })()"
		for _, key := range []string{kb.End, kb.Home} {
			p.do(chromedp.KeyEvent(key))
			p.wait("[aria-live=polite]", "ip-10-")
			if !value[bool](p, seen) {
				t.Errorf("%s: the cell of the keyboard is not seen after %q", name, key)
			}
		}
		p.quiet()
	}
}

// What is under the pointer is said, and a click on a cell opens its node.
func TestPointer(t *testing.T) {
	p := open(t).show(t, false, "-scene", "release", "-still")
	p.goTo(firstSet)
	p.wait("h1", "node-exporter")
	p.tabTo(".cells")
	p.do(chromedp.KeyEvent("n"))
	p.wait("[aria-live=polite]", "failing")
	at := value[[]float64](p, "(() => { const r = document.querySelector('.cell').getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()")
	name := value[string](p, "document.querySelector('.tip div').textContent.split(' ')[0]")
	p.do(chromedp.KeyEvent(kb.Home), chromedp.KeyEvent("/")) // the mark of the keyboard is gone with the focus
	p.until("document.querySelector('.tip') === null")
	p.do(chromedp.MouseEvent(chromedp.MouseMoved, at[0], at[1]))
	p.wait(".tip", name)
	p.wait(".tip", "failing: Starting: CrashLoopBackOff")
	p.do(chromedp.MouseClickXY(at[0], at[1]))
	p.wait("h1", name)
	p.wait(".row.failing", "CrashLoopBackOff")
	p.quiet()
}

// A node is found by what is said of it.
func TestSearchReason(t *testing.T) {
	p := open(t).show(t, false, "-scene", "release", "-still")
	p.wait(".lead", "300 nodes")
	p.do(chromedp.KeyEvent("/"), chromedp.KeyEvent("no such file"))
	p.wait("[role=option]", "node-exporter: Starting: CrashLoopBackOff")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.wait(".row.failing", "no such file")
	p.quiet()
}

// A tab that nobody sees for long is told nothing, and goes on when it is seen. Five minutes are made short.
func TestHiddenTab(t *testing.T) {
	p := open(t).show(t, true, "-scene", "small")
	p.wait(".live", "live")
	value[bool](p, `(() => {
		const real = window.setTimeout
		window.setTimeout = (f, ms, ...more) => real(f, ms === 300000 ? 100 : ms, ...more)
		window.see = (seen) => {
			Object.defineProperty(document, 'hidden', {configurable: true, value: !seen})
			document.dispatchEvent(new Event('visibilitychange'))
		}
		see(false)
		return true
	})()`)
	p.wait(".live", "connecting")
	value[bool](p, "see(true) === undefined")
	p.wait(".live", "live")
	p.quiet()
}

// Markup in names and texts is text, and names of 253 characters break nothing.
func TestHostile(t *testing.T) {
	p := open(t).show(t, false, "-scene", "hostile", "-still")
	p.wait(".finding", "<script>document.title='harmed'</script>")
	p.accessible("hostile-fleet")
	p.do(chromedp.Click(chromedp.CSS(".finding button")))
	p.wait(".log pre", "<img src=x onerror=")
	p.do(chromedp.Click(chromedp.CSS(".tools > button.quiet")))
	p.do(chromedp.Click(chromedp.CSS(".sets li .set-link")))
	p.wait(".timeline", "<img src=x")
	p.wait("td", "<b>&lt;")
	p.accessible("hostile-daemonset")
	p.do(chromedp.Click(chromedp.CSS(".finding .who a")))
	p.wait("code", "<script>")
	p.wait("td", "<img src=x")
	p.accessible("hostile-node")
	if n := value[int](p, "document.querySelectorAll('main img, main script, main b > b').length"); n != 0 {
		t.Errorf("%d elements were made of texts", n)
	}
	if title := value[string](p, "document.title"); title == "harmed" {
		t.Error("a text was run")
	}
	if wide := value[bool](p, "document.documentElement.scrollWidth > innerWidth"); wide {
		t.Error("long names make the page wider than the window")
	}
	p.quiet()
}

// What an action is about is said before it is done, by the name of its revision.
func TestActions(t *testing.T) {
	p := open(t).show(t, false, "-scene", "release", "-still")
	p.wait("h1", "All DaemonSets")
	p.goTo(firstSet)
	p.wait(".actions button", "Abort")
	p.do(chromedp.Click(chromedp.CSS(".actions button.danger")))
	p.wait("dialog[open]", "Abort release 4 of monitoring/node-exporter?")
	p.wait("dialog[open] p", "7c9f5b88d4")
	p.accessible("confirm-light")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.until("!document.querySelector('dialog').open")
	if said := p.text(".said"); said != "" {
		t.Errorf("it was done without a word: %s", said)
	}
	p.do(chromedp.Click(chromedp.CSS(".actions button.danger")), chromedp.WaitVisible(chromedp.CSS("dialog button.danger")), chromedp.Click(chromedp.CSS("dialog button.danger")))
	p.wait(".said", "abort of release 4 of 7c9f5b88d4 for monitoring/node-exporter")
	p.quiet()
}

// What is not there is said: no nodes, no DaemonSets, a cluster that is not seen.
func TestNothing(t *testing.T) {
	s := open(t)
	for scene, want := range map[string]string{"empty": "The cluster has no nodes.", "no-sets": "There is no DaemonSet here.", "stale": "What is shown may be out of date since 14:03:11",
		"hidden": "Releases are not shown: daemonsetrollouts.everynode.io is forbidden"} {
		p := s.show(t, false, "-scene", scene)
		p.wait("body", want)
		p.accessible(scene + "-light")
		p.goTo("#/node/nobody")
		p.wait(".lead", "The cluster has no node of this name")
		p.goTo("#/set/a/b")
		p.wait(".empty", "There is no DaemonSet a/b")
		p.quiet()
	}
}

// A page that may only be looked at offers nothing else.
func TestOnlyLooking(t *testing.T) {
	p := open(t).show(t, false, "-scene", "small", "-still")
	p.goTo(firstSet)
	p.wait(".rail .release", "release 4")
	if n := value[int](p, "document.querySelectorAll('.actions, .actions button, dialog').length"); n != 0 {
		t.Errorf("%d things are offered that change a release", n)
	}
	p.quiet()
}

// What goes wrong in a page is heard: else all tests would be quiet for nothing.
func TestConsoleIsHeard(t *testing.T) {
	p := open(t).show(t, false, "-scene", "small", "-still")
	p.wait(".live", "live")
	p.quiet()
	value[bool](p, "setTimeout(() => { console.error('said on purpose'); throw new Error('thrown on purpose') }) > 0")
	for deadline := time.Now().Add(20 * time.Second); ; {
		all := strings.Join(p.Said(), "\n")
		if strings.Contains(all, "said on purpose") && strings.Contains(all, "thrown on purpose") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the console has said %q", all)
		}
		p.until("document.hidden === false") // the messages come by the same way
	}
}

func TestHundredSets(t *testing.T) {
	p := open(t).show(t, true, "-scene", "hundred")
	p.until("document.querySelectorAll('.sets li').length === 100")
	p.do(chromedp.SendKeys(chromedp.CSS(".sets .filter"), "falco"))
	p.until("document.querySelectorAll('.sets li').length === 10")
	p.accessible("hundred-dark")
	p.quiet()
}

// A server that dies is missed, and its page goes on when it is back. One with another token is another one.
func TestServerDies(t *testing.T) {
	s := open(t)
	p := s.show(t, true, "-scene", "small", "-token", "one")
	p.wait(".live", "live")
	address := strings.TrimPrefix(strings.Split(p.program.URL, "/#")[0], "http://")
	p.program.Kill()
	p.wait(".live", "STALE")
	p.wait(".trouble", "Does everynode ui still run?")
	p.accessible("lost-dark")
	again, err := Serve(t.Context(), s.stage, "-scene", "small", "-token", "one", "-listen", address)
	if err != nil {
		t.Fatal(err)
	}
	p.wait(".live", "live")
	if p.text(".trouble") != "" {
		t.Errorf("it is back, and the page says %s", p.text(".trouble"))
	}
	again.Kill()
	p.wait(".live", "STALE")
	other, err := Serve(t.Context(), s.stage, "-scene", "small", "-token", "two", "-listen", address)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.wait(".trouble", "This link is of an earlier run")
}

// The token is not in the address, the history or the title once the page is open, and a page that is loaded again has it.
func TestTokenIsTaken(t *testing.T) {
	p := open(t).show(t, false, "-scene", "small")
	p.wait(".live", "live")
	u, err := url.Parse(value[string](p, "location.href"))
	if err != nil || strings.Contains(u.String(), "token") {
		t.Errorf("the address is %s, %v", u, err)
	}
	p.do(chromedp.Reload())
	p.wait(".live", "live")
	p.quiet()
}

// paints reports whether the map has a pixel that is just of a colour of the style sheet.
func (p *shown) paints(colour string) bool {
	p.t.Helper()
	return value[bool](p, fmt.Sprintf(`(() => {
		const c = document.querySelector('.cells canvas'), want = parseInt(%q.slice(1), 16)
		const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true})
		copy.drawImage(c, 0, 0)
		const all = copy.getImageData(0, 0, c.width, c.height).data
		for (let i = 0; i < all.length; i += 4) if (all[i + 3] === 255 && (all[i] << 16 | all[i + 1] << 8 | all[i + 2]) === want) return true
		return false
	})()`, colour))
}

// On paper there is what matters, in light colours, and so is what was drawn.
func TestPrint(t *testing.T) {
	const newDark, newLight = "#2f9e76", "#2f9470"
	p := open(t).show(t, true, "-scene", "release", "-still")
	p.wait(".finding", "CrashLoopBackOff")
	light := func(when string, want bool) {
		t.Helper()
		if p.paints(newLight) != want || p.paints(newDark) == want {
			t.Errorf("%s the map is in light colours: %t, want %t", when, p.paints(newLight), want)
		}
	}
	light("on the screen", false)
	value[bool](p, "dispatchEvent(new Event('beforeprint'))") // browsers send it before they ask for the style of print
	light("before it is printed", true)
	value[bool](p, "dispatchEvent(new Event('afterprint'))")
	light("afterwards", false)
	if _, err := chromedp.Call(p.Ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print",
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}); err != nil {
		t.Fatal(err)
	}
	if shown := value[bool](p, "document.querySelector('.sets').checkVisibility()"); shown {
		t.Error("the list of DaemonSets is printed")
	}
	p.accessible("print")
	light("printed", true)
	p.quiet()
}

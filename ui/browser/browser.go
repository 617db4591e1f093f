// Package browser shows the page of `everynode ui` in Chromium, for its tests and for the pictures in the docs.
package browser

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// ErrNoChromium says that there is no browser, and how to get one.
var ErrNoChromium = errors.New("chromium is not installed: make page-packages does it, or apt-get install chromium")

// Browser is a Chromium without a window.
type Browser struct {
	ctx  context.Context
	stop func()
}

// Start starts one. It ends with Close, or with ctx.
func Start(ctx context.Context) (*Browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, ErrNoChromium
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	allocated, stop := chromedp.NewExecAllocator(ctx, options...)
	all, end := chromedp.NewContext(allocated)
	if err := chromedp.Do(all); err != nil {
		stop()
		return nil, fmt.Errorf("start chromium: %w", err)
	}
	return &Browser{all, func() { end(); stop() }}, nil
}

// Close ends it.
func (b *Browser) Close() { b.stop() }

// Tab is a page that is shown. What its console says is kept.
type Tab struct {
	Ctx   context.Context
	close func()

	heard sync.WaitGroup
	mu    sync.Mutex
	said  []string
}

// Open shows a page in a window of that size.
func (b *Browser) Open(url string, width, height int64, dark bool) (*Tab, error) {
	ctx, stop := chromedp.NewContext(b.ctx)
	t := &Tab{Ctx: ctx, close: stop}
	messages := chromedp.Console(ctx)
	t.heard.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			t.mu.Lock()
			t.said = append(t.said, string(m.Type)+": "+m.Text+" "+m.URL)
			t.mu.Unlock()
		}
	})
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	if err == nil {
		err = chromedp.Do(ctx, chromedp.EmulateViewport(width, height), chromedp.Navigate(url))
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("open the page: %w", err)
	}
	return t, nil
}

// Close closes it.
func (t *Tab) Close() {
	t.close()
	t.heard.Wait()
}

// Said returns what the console has said so far.
func (t *Tab) Said() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.said...)
}

// Program is one that serves the page, and prints where.
type Program struct {
	URL     string
	command *exec.Cmd
}

// Serve starts a program and waits for the link that it prints.
func Serve(ctx context.Context, command string, args ...string) (*Program, error) {
	c := exec.CommandContext(ctx, command, args...)
	c.Stderr = os.Stderr
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url := strings.TrimSpace(lines.Text()); strings.HasPrefix(url, "http://127.0.0.1:") {
			return &Program{url, c}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s has printed no link", command), lines.Err(), c.Process.Kill(), c.Wait())
}

// Kill ends it at once, as a crash does.
func (p *Program) Kill() { _ = p.command.Process.Kill(); _ = p.command.Wait() }

// Close ends it in order.
func (p *Program) Close() {
	_ = p.command.Process.Signal(os.Interrupt)
	_ = p.command.Wait()
}

// Go has the page show what is at a fragment of its address.
func (*Tab) Go(fragment string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[any](fmt.Sprintf("location.hash = %q", fragment))(ctx, t)
		return chromedp.Void{}, err
	}
}

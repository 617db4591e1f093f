// Command pictures takes pictures of the page of `everynode ui`: pictures OUT PROGRAM ARGUMENTS... starts the program, which
// prints where the page is, and shows it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/chromedp/chromedp"

	"everynode/ui/browser"
)

func main() {
	width, height := flag.Int64("width", 1440, "of the window"), flag.Int64("height", 900, "of the window")
	path := flag.String("path", "#/", "what is shown, as the fragment of the address")
	press := flag.String("click", "", "what is clicked, as a CSS selector")
	dark := flag.Bool("dark", false, "dark colours")
	after := flag.Duration("after", 2*time.Second, "how long after it was opened")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: pictures [FLAGS] OUT PROGRAM ARGUMENTS...")
		os.Exit(2)
	}
	if err := take(flag.Arg(0), flag.Args()[1:], *width, *height, *path, *press, *dark, *after); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func take(out string, program []string, width, height int64, path, press string, dark bool, after time.Duration) error {
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	p, err := browser.Serve(ctx, program[0], program[1:]...)
	if err != nil {
		return err
	}
	defer p.Close()
	b, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	t, err := b.Open(p.URL, width, height, dark)
	if err != nil {
		return err
	}
	defer t.Close()
	steps := []chromedp.Action[chromedp.Void]{chromedp.WaitVisible(chromedp.CSS("main h1")), t.Go(path), chromedp.Sleep(after)}
	if press != "" {
		steps = append(steps, chromedp.Click(chromedp.CSS(press)), chromedp.Sleep(time.Second))
	}
	if err := chromedp.Do(t.Ctx, steps...); err != nil {
		return err
	}
	picture, err := chromedp.Run(t.Ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	for _, said := range t.Said() {
		fmt.Fprintln(os.Stderr, said)
	}
	return os.WriteFile(out, picture, 0o644)
}

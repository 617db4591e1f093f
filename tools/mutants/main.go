// Command mutants checks whether the tests would notice defects. It makes one small defect after
// another, from a list that people wrote, and runs the tests of the package. If no test notices a
// defect, the defect is alive, and a test is missing.
//
//	mutants [-check] [-list FILE] [-in PATH] [NAME...]
//
// It runs in the root of the repository and changes nothing there: an overlay gives the go
// command the changed file. NAMEs are parts of the names of the mutants to try; without any, all
// mutants are tried. -in tries those in files whose path has PATH in it, such as internal/engine.
// With -check it only checks that each mutant still applies. It fails if a mutant is alive, does
// not apply or does not compile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// workers is how many mutants are tested at a time: the go command and the tests each use more
// than one processor.
const workers = 2

func main() {
	check := flag.Bool("check", false, "only check that each mutant applies")
	file := flag.String("list", "tools/mutants/mutants.txt", "the `file` with the mutants")
	in := flag.String("in", "", "try only the mutants in files whose path has this `part`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := mutants(ctx, *file, *check, *in, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func mutants(ctx context.Context, file string, check bool, in string, names []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the list: %w", err)
	}
	list, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s:\n%w", file, err)
	}
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	if err := checkAll(list, root); err != nil {
		return fmt.Errorf("%s:\n%w", file, err)
	}
	if check {
		fmt.Printf("%d mutants apply\n", len(list))
		return nil
	}
	list = slices.DeleteFunc(list, func(m mutant) bool { return !named(m.name, names) || !strings.Contains(m.file, in) })
	if len(list) == 0 {
		return fmt.Errorf("no mutant is called %q in a file of %q", names, in)
	}
	temp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	return tryAll(ctx, &bench{root: root, temp: temp}, list)
}

func named(name string, parts []string) bool {
	return len(parts) == 0 || slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(name, p) })
}

// tryAll tests the code without a defect, then with every mutant.
func tryAll(ctx context.Context, b *bench, list []mutant) error {
	began := time.Now()
	if err := b.sound(ctx, list); err != nil {
		return err
	}
	var mu sync.Mutex
	var alive []string
	var wrong []error
	report := func(m *mutant, o outcome, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s: %w", m.name, err))
		case len(o.failed) == 0:
			alive = append(alive, m.name)
			fmt.Printf("ALIVE   %s (%s)\n", m.name, m.file)
		default:
			fmt.Printf("killed  %-40s by %s\n", m.name, killers(o))
		}
	}
	each(ctx, len(list), func(i int) {
		m := &list[i]
		text, err := m.apply(b.root)
		var o outcome
		if err == nil {
			o, err = b.test(ctx, i, m.file, text, m.by)
		}
		report(m, o, err)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Printf("%d mutants, %d alive, %d errors, %v\n", len(list), len(alive), len(wrong), time.Since(began).Round(time.Second))
	if len(alive) > 0 {
		wrong = append(wrong, fmt.Errorf("no test notices: %s", strings.Join(alive, "; ")))
	}
	return errors.Join(wrong...)
}

// each calls do with 0 to n-1, several at a time. It starts no calls after ctx has ended, and
// returns when all calls have returned.
func each(ctx context.Context, n int, do func(i int)) {
	jobs := make(chan int)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range jobs {
				do(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		jobs <- i
	}
	close(jobs)
	group.Wait()
}

// sound checks that the tests pass without a defect. Otherwise all mutants would seem to be
// killed.
func (b *bench) sound(ctx context.Context, list []mutant) error {
	var files []string // one file of each package
	seen := map[string]bool{}
	for _, m := range list {
		if dir := path.Dir(m.file); !seen[dir] {
			seen[dir] = true
			files = append(files, m.file)
		}
	}
	wrong := make([]error, len(files))
	each(ctx, len(files), func(i int) {
		switch o, err := b.test(ctx, i, files[i], "", ""); {
		case err != nil:
			wrong[i] = fmt.Errorf("%s as it is: %w", path.Dir(files[i]), err)
		case len(o.failed) > 0:
			wrong[i] = fmt.Errorf("the tests of %s fail without any mutant, by %s", path.Dir(files[i]), killers(o))
		}
	})
	return errors.Join(append(wrong, ctx.Err())...)
}

// killers names the first tests that noticed. Subtests come first, because they show the most.
func killers(o outcome) string {
	names := slices.Clone(o.failed)
	slices.SortStableFunc(names, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	const most = 3
	text := strings.Join(names[:min(len(names), most)], " ")
	if n := len(names) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	if first := passes()[0].name; o.pass != first {
		text += " (" + o.pass + ")"
	}
	return text
}

// Command conformance runs Kubernetes' own end-to-end tests against a cluster that it
// starts with everynode up, and takes down again.
//
//	conformance run [-focus REGEXP] [-sig NAMES] [-daemonsets] [-times N] [-procs N]
//	conformance report [-o json]
//	conformance images
//
// It runs in the root of the repository and needs everything below bin/ to be built.
// Results are kept from run to run, so that the suite can be run in parts. The command
// fails if a test fails, or if anything keeps the tests from running.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// All paths are below bin.
const (
	bin         = "bin"
	programs    = bin + "/conformance"
	resultsDir  = programs + "/results"
	resultsFile = resultsDir + "/results.json"
	imagesDir   = programs + "/images"
)

var errUsage = errors.New("usage: conformance run|report|images [FLAGS]; conformance run -h says which")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] {
	case "run":
		return runCommand(ctx, args[1:])
	case "report":
		return reportCommand(args[1:])
	case "images":
		return buildImages(ctx)
	}
	return errUsage
}

func runCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	var s selection
	flags.StringVar(&s.focus, "focus", "", "only tests whose names match this `regexp`")
	sigs := flags.String("sig", "", "only those of these groups, such as `apps,node`")
	flags.BoolVar(&s.daemonSets, "daemonsets", false, "the tests of DaemonSets and of ControllerRevisions, whether they are conformance tests or not")
	flags.BoolVar(&s.all, "all", false, "also what cannot pass here, see conformance/notrun.txt")
	flags.IntVar(&s.procs, "procs", 2*runtime.NumCPU(), "`processes` that run tests beside each other; those marked [Serial] run alone")
	times := flags.Int("times", 1, "run everything so many `times`; stop at the first failure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.daemonSets {
		if s.focus != "" || *sigs != "" {
			return errors.New("-daemonsets is a selection of its own: leave -focus and -sig out")
		}
		s.procs = 1 // all of them run alone
	}
	if *sigs != "" {
		s.sigs = strings.Split(*sigs, ",")
	}
	known, err := readSuite()
	if err != nil {
		return err
	}
	record, err := readResults(resultsFile, known.version)
	if err != nil {
		return err
	}
	for range *times {
		latest, err := runOnce(ctx, s, known)
		record.Results = record.Results.add(latest)
		if err := errors.Join(err, record.write(resultsFile)); err != nil {
			return err
		}
		summary := known.summarize(latest)
		summary.print(os.Stdout)
		if err := summary.err(); err != nil {
			return err
		}
	}
	return nil
}

// runOnce starts a cluster, runs what is selected, and takes the cluster down.
func runOnce(ctx context.Context, s selection, known *suite) (latest results, err error) {
	c, err := startCluster(ctx, filepath.Join(bin, "everynode"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	return runSuite(ctx, s, known, c.kubeconfig())
}

func reportCommand(args []string) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	output := flags.String("o", "text", "`format`: text or json")
	if err := flags.Parse(args); err != nil {
		return err
	}
	known, err := readSuite()
	if err != nil {
		return err
	}
	record, err := readResults(resultsFile, known.version)
	if err != nil {
		return err
	}
	summary := known.summarizeAll(record)
	switch *output {
	case "text":
		summary.print(os.Stdout)
	case "json":
		err = summary.printJSON(os.Stdout)
	default:
		err = fmt.Errorf("there is no output %q: text and json are", *output)
	}
	return errors.Join(err, summary.err())
}

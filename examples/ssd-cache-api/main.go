// Command ssd-cache-api is a cache that keeps its values on the disk of the node it runs on and serves
// them over HTTP. It is the second example of the article: a DaemonSet for the nodes that have an SSD.
// A value survives a restart of the process; the values used least recently make room for new ones.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// drainTime is how long requests may take to end after SIGTERM; less than the pod's grace period.
const drainTime = 10 * time.Second

// sweepEvery is how often expired values are removed. None is served after its time in any case.
const sweepEvery = time.Minute

// options are the options of the command line.
type options struct {
	listen, data string
	ttl          time.Duration
	limits       limits
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	opts, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, opts, os.Getenv("NODE_NAME"), nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ssd-cache-api:", err)
		os.Exit(1)
	}
}

// parse parses the command line. It writes errors to the output, too.
func parse(args []string, output io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("ssd-cache-api", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&opts.listen, "listen", "127.0.0.1:8080", "`address` to serve HTTP on")
	flags.StringVar(&opts.data, "data", "", "`directory` for the values (required)")
	flags.DurationVar(&opts.ttl, "ttl", 0, "life of values that come without a max-age; 0: until they have to make room")
	flags.Int64Var(&opts.limits.Value, "max-value", 8<<20, "`bytes` that one value may have")
	flags.Int64Var(&opts.limits.Total, "max-total", 256<<20, "`bytes` that all values together may have")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if opts.data == "" {
		return opts, errors.New("where do the values go? Give --data DIRECTORY")
	}
	return opts, nil
}

// run serves until ctx ends and lets running requests end. ready, if not nil, is called with the address.
func run(ctx context.Context, opts options, node string, ready func(net.Addr)) (err error) {
	store, err := openStore(opts.data, opts.limits, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", opts.listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           (&api{store: store, node: node, defaultTTL: opts.ttl}).handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	slog.Info("serving", "address", listener.Addr().String(), "node", node, "data", opts.data, "entries", store.snapshot().Entries)
	if ready != nil {
		ready(listener.Addr())
	}
	if err := sweepUntil(ctx, store, served); err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("requests cut off after %v: %w", drainTime, err), server.Close())
	}
	<-served
	slog.Info("stopped")
	return nil
}

// sweepUntil removes expired values now and then until ctx ends, which is not an error, or the server fails.
func sweepUntil(ctx context.Context, store *store, served <-chan error) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return fmt.Errorf("serving: %w", err)
		case <-ticker.C:
			if err := store.sweep(); err != nil {
				slog.Error("expired values not deleted", "err", err)
			}
		}
	}
}

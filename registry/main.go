// Command registry is distribution's registry, as the cluster of one machine needs it. Users of the machine push
// and pull over loopback. Nodes pull from an address that they can reach. Nobody can push there, because otherwise
// each pod could choose what the others run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

// grace is how long requests may take to end when the program stops.
const grace = 5 * time.Second

// options are the folder and the addresses of the registry.
type options struct {
	dir  string // images, and the certificate by which nodes recognize it
	push string // address on loopback, without TLS: other machines cannot reach it
	pull string // address that nodes reach, with TLS
}

func main() {
	var o options
	flag.StringVar(&o.dir, "data", "", "folder of the images")
	flag.StringVar(&o.push, "push", "127.0.0.1:5000", "loopback address to push to and to pull from")
	flag.StringVar(&o.pull, "pull", "", "address that can only be pulled from, with TLS")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logrus.SetLevel(logrus.ErrorLevel)
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o options) error {
	images, err := store(ctx, filepath.Join(o.dir, "images"))
	if err != nil {
		return err
	}
	push, err := listenLoopback(ctx, o.push)
	if err != nil {
		return err
	}
	defer push.Close()
	pull, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", o.pull)
	if err != nil {
		return fmt.Errorf("serve nodes: %w", err)
	}
	defer pull.Close()
	config, err := identity(pull.Addr(), filepath.Join(o.dir, "ca.crt"))
	if err != nil {
		return err
	}
	slog.Info("the registry is ready", "push", push.Addr(), "pull", pull.Addr())
	g, ctx := errgroup.WithContext(ctx)
	serve := func(server *http.Server, serve func() error) {
		g.Go(func() error {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if err := server.Shutdown(late); err != nil {
				return server.Close() // a client whose request takes too long has to repeat it
			}
			return nil
		})
	}
	local := &http.Server{Handler: byItsName(images), ReadHeaderTimeout: time.Minute}
	serve(local, func() error { return local.Serve(push) })
	nodes := &http.Server{Handler: readOnly(images), ReadHeaderTimeout: time.Minute, TLSConfig: config}
	serve(nodes, func() error { return nodes.ServeTLS(pull, "", "") })
	return g.Wait()
}

// listenLoopback listens at an address, but refuses one that other machines can reach: no password is needed there.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("serve this machine: %w", err)
	}
	if a, ok := listener.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("--push %s is not an address of the loopback interface, and everybody could push there: give 127.0.0.1 and a port", address), listener.Close())
	}
	return listener, nil
}

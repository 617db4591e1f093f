// Command serving is an agent whose clients see which image it runs: it answers with the version in its image's /version. It
// listens on the port in its arguments. Version "crash" ends at once; versions that begin with "slow" take 3 seconds to end, and
// serve until then.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// slowEnd is how long a slow version takes to end.
const slowEnd = 3 * time.Second

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "serving:", err)
		os.Exit(1)
	}
}

func serve() error {
	if len(os.Args) != 2 {
		return errors.New("usage: serving PORT")
	}
	text, err := os.ReadFile("/version")
	if err != nil {
		return err
	}
	version := strings.TrimSpace(string(text))
	if version == "crash" {
		return errors.New("this version cannot run")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: ":" + os.Args[1], ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, version)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if strings.HasPrefix(version, "slow") {
		<-time.After(slowEnd)
	}
	return server.Close()
}

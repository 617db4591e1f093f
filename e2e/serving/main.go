// Command serving is an agent whose clients see which image it runs: it answers with the version that its image has in /version.
// It listens on the port that it is given. Version "crash" ends at once; those that begin with "slow" take 3 seconds to end, and serve as long.
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

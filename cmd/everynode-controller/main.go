// Command everynode-controller is only the DaemonSet engine, without control
// plane and node agent: small enough for an image.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"everynode/internal/engine/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	cmd := command.New()
	cmd.Use = "everynode-controller"
	cmd.AddCommand(command.NewHandover(command.InCluster), command.NewCheck(command.InCluster), command.NewProbe())
	cmd.SetFlagErrorFunc(command.WrongCall)
	if err := cmd.ExecuteContext(ctx); err != nil {
		stop()
		os.Exit(command.ExitCode(err)) // cobra has printed the error
	}
}

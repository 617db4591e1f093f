// Command everynode is the whole system in one binary. Its roles are
// subcommands. Called as kubectl, it is kubectl.
package main

import (
	"os"

	"everynode/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

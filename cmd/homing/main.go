// Command homing is the whole of Homing in one binary: it runs the roles of a
// node, a demo world, and the tools of users and operators.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/homing-im/homing/cmd/homing/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

//go:build linux

// Command lab plays scenarios in a whole world of real processes: each region,
// POP, DNS node and group of people in a network namespace of its own, joined by
// a wide-area network in user space whose lines are slow, lossy and cut as a
// scenario says (scenarios/, package script).
//
//	lab run [-v] [-keep] [-hold] [-record] SCENARIO...    a table at the end; exits 0 or 1
//	lab wan SOCKET COMMAND...                             changes lines of a running world
//
// It guarantees that a scenario passes only when its trace is as expected, every
// message that was acknowledged is exactly once in both inboxes, whose numbers
// are dense, snapshots missed nothing, and no process crashed; and that nothing
// remains of it, also after kill -9, but the directory of a run that was killed,
// which the next run removes. Root is needed; see package netns.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/homing-im/homing/deploy/lab/traffic"
	"github.com/homing-im/homing/deploy/lab/wan"
)

const usage = `usage: lab run [-v] [-keep] [-hold] [-record] [-homing FILE] SCENARIO...
       lab wan SOCKET COMMAND...`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	status := 0
	switch os.Args[1] {
	case "run":
		status, err = run(ctx, os.Args[2:])
	case "traffic":
		err = people(ctx, os.Args[2:])
	case "wan":
		if len(os.Args) < 4 {
			err = fmt.Errorf("want a socket and a command, such as: sh hk delay=80ms")
			break
		}
		var answer string
		if answer, err = wan.Ask(os.Args[2], strings.Join(os.Args[3:], " ")); err == nil {
			fmt.Println(answer)
		}
	default:
		err = fmt.Errorf("unknown verb %q\n%s", os.Args[1], usage)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(max(status, 1))
	}
	os.Exit(status)
}

// people is a process of clients: lab starts itself so.
func people(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want a configuration")
	}
	var c traffic.Config
	b, err := os.ReadFile(args[0])
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return err
	}
	return traffic.Run(ctx, c, os.Stdin, os.Stdout)
}

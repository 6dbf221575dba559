// Command play plays seeds of the simulator, and nothing else: it is what the
// test of the mutants builds, again and again, because it links in a second.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/homing-im/homing/cmd/homing/sim"
)

func main() {
	first := flag.Uint64("seed", 1, "first seed")
	seeds := flag.Int("seeds", 100, "how many")
	trace := flag.Bool("trace", false, "print the whole trace of every seed")
	moves := flag.Bool("moves", false, "users move, too")
	flag.Parse()
	debug.SetGCPercent(400) // a run is a few MB, made of small pieces
	r := sim.Play(context.Background(), sim.Options{First: *first, Seeds: *seeds, Moves: *moves, Trace: *trace, Out: os.Stdout})
	fmt.Printf("played %d\n", r.Seeds)
	if len(r.Failed) > 0 {
		os.Exit(1)
	}
}

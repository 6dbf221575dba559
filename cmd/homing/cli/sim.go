package cli

import (
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/sim"
)

func newSimCommand(e *env) *cobra.Command {
	var o sim.Options
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Play disasters from seeds, with the invariants checked at every step",
		Long: "Sim steps three regions, in one thread and without a disk, through lost and altered messages, crashes, cut links,\n" +
			"switchovers, failovers and clients, as a seed says. It exits 1 with a trace when an invariant does not hold.",
		Example: "  homing sim --seeds 500\n  homing sim --seed 7 --seeds 1 --trace",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Seeds < 1 {
				return fmt.Errorf("--seeds %d: give at least 1", o.Seeds)
			}
			o.Out = e.out
			debug.SetGCPercent(400) // a run is a few MB, made of small pieces
			r := sim.Play(cmd.Context(), o)
			s := &r.Stats
			_, _ = fmt.Fprintf(e.out, "%d seeds in %.1f s: %d steps, %d acknowledged writes\n", r.Seeds, r.Took.Seconds(), s.Steps, s.Acknowledged)
			_, _ = fmt.Fprintf(e.out, "regions:  %d crashes (%d operations lost), %d cuts\n", s.Crashes, s.Lost, s.Cuts)
			_, _ = fmt.Fprintf(e.out, "homes:    %d switchovers, %d failovers, %d failbacks (partitions)\n", s.Switchovers, s.Failovers, s.Failbacks)
			_, _ = fmt.Fprintf(e.out, "tails:    %d batches merged, of which %d conflicts\n", s.Tail, s.Conflicts)
			_, _ = fmt.Fprintf(e.out, "queues:   %d losses, %d runs repeated, %d messages altered\n", s.QueueLosses, s.Repeated, s.Altered)
			_, _ = fmt.Fprintf(e.out, "replay:   %d gap fills, %d duplicates, %d messages refused\n", s.GapFills, s.Duplicates, s.Refused)
			if len(r.Failed) > 0 {
				slices.Sort(r.Failed)
				return fmt.Errorf("seed %d fails: see the trace above", r.Failed[0])
			}
			return cmd.Context().Err()
		},
	}
	cmd.Flags().Uint64Var(&o.First, "seed", 1, "first seed")
	cmd.Flags().IntVar(&o.Seeds, "seeds", 100, "how many seeds, one after the other")
	cmd.Flags().BoolVar(&o.Trace, "trace", false, "print the whole trace of every seed")
	cmd.Flags().IntVar(&o.Jobs, "jobs", 0, "seeds at a time (0: one for each processor)")
	return cmd
}

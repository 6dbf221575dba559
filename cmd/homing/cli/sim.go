package cli

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/sim"
	"github.com/homing-im/homing/cmd/homing/sim/model"
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
			_, _ = fmt.Fprintf(e.out, "homes:    %d switchovers, %d failovers, %d failbacks (partitions); %d forks of worlds\n", s.Switchovers, s.Failovers, s.Failbacks, s.Forks)
			_, _ = fmt.Fprintf(e.out, "users:    %d moves, %d handles claimed, %d commands that nobody can execute\n", s.Moves, s.Handles, s.Poison)
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
	cmd.Flags().BoolVar(&o.Moves, "moves", false, "have users move, too: some tails of users who moved are merged by nobody, a known failure")
	cmd.Flags().IntVar(&o.Jobs, "jobs", 0, "seeds at a time (0: one for each processor)")
	cmd.AddCommand(newSimModelCommand(e))
	return cmd
}

func newSimModelCommand(e *env) *cobra.Command {
	b := model.Small
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Search every state of small worlds in which a home changes hands",
		Long: "Model searches all interleavings of fence, end of term, takeover, tail and failback in worlds of a few writes. What\n" +
			"decides is the code that regions run. It exits 1 with the shortest way to a state in which an invariant does not\n" +
			"hold. A larger bound takes many times as long, and 300 bytes for each state.",
		Example: "  homing sim model\n  homing sim model --messages 2 --changes 3 --cuts 2",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := b.Validate(); err != nil {
				return err
			}
			debug.SetGCPercent(400)
			began := time.Now()
			r := model.Search(b, model.Production)
			_, _ = fmt.Fprintf(e.out, "bounds:  %s\n", b)
			_, _ = fmt.Fprintf(e.out, "visited: %d states by %d steps, in %.1f s; in %d of them nothing was left to do; the farthest is %d steps away\n",
				r.States, r.Steps, time.Since(began).Seconds(), r.Rests, r.Depth)
			if r.What == "" {
				_, _ = fmt.Fprintln(e.out, "every invariant holds in every state")
				return nil
			}
			for _, step := range r.Way {
				_, _ = fmt.Fprintf(e.out, "  %s\n", step)
			}
			_, _ = fmt.Fprint(e.out, r.At)
			return fmt.Errorf("invariant %d does not hold: %s", r.Invariant, r.What)
		},
	}
	f := cmd.Flags()
	f.IntVar(&b.Regions, "regions", b.Regions, "how many regions: 2, or 3 of which the last one only follows")
	f.IntVar(&b.Messages, "messages", b.Messages, "how many messages clients send, at most 3")
	f.IntVar(&b.Settings, "settings", b.Settings, "how many settings clients write, at most 2")
	f.IntVar(&b.Changes, "changes", b.Changes, "how often who acts is changed, at most 3")
	f.IntVar(&b.Cuts, "cuts", b.Cuts, "how often a region is cut off")
	return cmd
}

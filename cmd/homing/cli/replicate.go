package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region/store/mend"
	"github.com/homing-im/homing/replicator"
)

func newReplicateCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "replicate", Short: "Look at the copies that regions have of each other, and repair them",
		Long: `Every region keeps copies of what others wrote. They are compared all the time: by
digests that come with the records, and by adding up the rows. Each command here is
signed with the operator's key, and asks the region that has the copy.`,
	}
	var in, key string
	cmd.PersistentFlags().StringVar(&in, "in", "", "the region that has the copy")
	cmd.PersistentFlags().StringVar(&key, "key", "", "the operator's private key (default: the running demo's)")

	cmd.AddCommand(&cobra.Command{
		Use: "status", Short: "How far every copy is, and which partitions are not well", Args: cobra.NoArgs,
		Example: "  homing replicate status --in hk",
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := e.copier(in, key)
			if err != nil {
				return err
			}
			var s replicator.Status
			if err := o.ask(c.Context(), "/operate/replicate", node.ReplicateRequest{}, &s); err != nil {
				return err
			}
			printCopies(e.out, &s)
			return nil
		},
	}, &cobra.Command{
		Use: "quarantine", Short: "Messages of other regions' queues that those regions did not write", Args: cobra.NoArgs,
		Long: `A message that cannot be read, is of another region or partition, too large, of a
newer version, or altered, is not applied and holds up nobody: the region's journal is
asked in its place. The newest of them are shown, with the reason. Commands that were
delivered and can not be executed are dead letters: homing queue dead.`,
		Example: "  homing replicate quarantine --in hk",
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := e.copier(in, key)
			if err != nil {
				return err
			}
			var list []replicator.Rejected
			if err := o.ask(c.Context(), "/operate/replicate/rejected", node.ReplicateRequest{}, &list); err != nil {
				return err
			}
			for _, r := range list {
				fmt.Fprintf(e.out, "%s  %s %s/%d offset %d, %d bytes, key %q: %s\n", r.At.Format(time.RFC3339), r.Origin, r.Stream, r.Partition, r.Offset, r.Size, r.Key, harmless(r.Reason))
			}
			if len(list) == 0 {
				fmt.Fprintln(e.out, "no message was rejected since this region's node started")
			}
			return nil
		},
	}, newRepairCommand(e, &in, &key))
	for name, short := range map[string]string{"pause": "Apply nothing of other regions until resumed", "resume": "Go on applying"} {
		cmd.AddCommand(&cobra.Command{
			Use: name, Short: short, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				o, err := e.copier(in, key)
				if err != nil {
					return err
				}
				return o.ask(c.Context(), "/operate/replicate/"+name, node.ReplicateRequest{}, nil)
			},
		})
	}
	return cmd
}

func newRepairCommand(e *env, in, key *string) *cobra.Command {
	var only int
	var try bool
	cmd := &cobra.Command{
		Use: "repair ORIGIN", Short: "Make a copy equal to the region it is a copy of", Args: cobra.ExactArgs(1),
		Long: `Compares the rows of the homes that ORIGIN acts for, partition by partition, and
makes those in the other region equal. What is newer there than at ORIGIN, because
ORIGIN was restored, is lost: look first, with --dry-run.`,
		Example: "  homing replicate repair sh --in hk --dry-run\n  homing replicate repair sh --in hk --partition 3",
		RunE: func(c *cobra.Command, args []string) error {
			o, err := e.copier(*in, *key)
			if err != nil {
				return err
			}
			o.client.Timeout = 0 // a partition takes as long as it is large
			return o.repair(c.Context(), e.out, args[0], only, try)
		},
	}
	cmd.Flags().IntVar(&only, "partition", -1, "this partition alone (default: all)")
	cmd.Flags().BoolVar(&try, "dry-run", false, "compare, and change nothing")
	return cmd
}

// copier is operator of the region that --in names.
func (e *env) copier(in, key string) (*operator, error) {
	if in == "" {
		return nil, fmt.Errorf("which region has the copy? give --in")
	}
	return e.operator(in, key)
}

func (o *operator) repair(ctx context.Context, out io.Writer, origin string, only int, try bool) error {
	var s replicator.Status
	if err := o.ask(ctx, "/operate/replicate", node.ReplicateRequest{}, &s); err != nil {
		return err
	}
	n := len(s.Shipping)
	if only >= n {
		return fmt.Errorf("--partition %d: there are 0 to %d", only, n-1)
	}
	from, to := 0, n
	if only >= 0 {
		from, to = only, only+1
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PARTITION\tROWS\tOWNERS\tMISSING\tOLDER\tOTHER\tNEWER\tSURPLUS\tAS OF")
	total := mend.Report{}
	for p := from; p < to; p++ {
		var r mend.Report
		if err := o.ask(ctx, "/operate/replicate/repair", node.RepairRequest{Origin: origin, Partition: uint16(p), Try: try}, &r); err != nil {
			_ = t.Flush()
			return err
		}
		total.Rows += r.Rows
		total.Owners += r.Owners
		total.Newer += r.Newer + r.Surplus
		if r.Equal() {
			continue
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", p, r.Rows, r.Owners, r.Missing, r.Older, r.Other, r.Newer, r.Surplus, r.Position)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	switch {
	case total.Owners == 0:
		fmt.Fprintf(out, "%d rows compared, all equal\n", total.Rows)
	case try:
		fmt.Fprintf(out, "%d rows compared; those of %d owners differ, and a repair makes them equal; %d rows are here alone or newer, and would be lost\n", total.Rows, total.Owners, total.Newer)
	default:
		fmt.Fprintf(out, "%d rows compared; those of %d owners differed, and are equal now; %d rows were here alone or newer, and are gone\n", total.Rows, total.Owners, total.Newer)
	}
	return nil
}

// printCopies prints streams, and under them the partitions that are not live.
func printCopies(w io.Writer, s *replicator.Status) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ORIGIN\tSTREAM\tPARTITION\tPOSITION\tLAG\tSECONDS\tSTATE\tQUARANTINED")
	for _, l := range s.Replay {
		fmt.Fprintf(t, "%s\t%s\tall\t\t%d\t%.1f\t%s\t%d\n", l.Origin, l.Stream, l.Records, l.Seconds, l.State, l.Quarantined)
		for _, p := range l.Partitions {
			if p.State != replicator.StateLive {
				fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%.1f\t%s\t\n", l.Origin, l.Stream, p.Partition, p.Position, p.Records, p.Seconds, p.State)
			}
		}
	}
	_ = t.Flush()
	for _, l := range s.Replay {
		for _, p := range l.Partitions {
			if p.Reason != "" {
				fmt.Fprintf(w, "%s %s, partition %d: %s\n", l.Origin, l.Stream, p.Partition, harmless(p.Reason))
			}
		}
	}
	for _, d := range s.Damaged {
		fmt.Fprintf(w, "rows of home %s in partition %d were changed behind the store's back\n", d.Home, d.Partition)
	}
	if s.ReplayPaused {
		fmt.Fprintln(w, "the replay is paused: homing replicate resume")
	}
}

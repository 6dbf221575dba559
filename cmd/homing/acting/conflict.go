package acting

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/worldfile"
)

// Conflicts returns what the regions found in tails and did not apply, by the
// region that acts for the owner now, and the regions that did not answer.
func (o *Operator) Conflicts(ctx context.Context, all bool) (found []core.Conflict, silent []region.ID, err error) {
	err = o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		for i := range k.World.Regions {
			var some []core.Conflict
			err := o.operate(ctx, &k.World.Regions[i], "/operate/conflicts", node.ConflictsRequest{All: all}, &some)
			switch region.KindOf(err) {
			case 0:
				found = append(found, some...)
			case region.Unavailable:
				silent = append(silent, k.World.Regions[i].ID)
			default:
				return err
			}
		}
		return nil
	})
	return found, silent, err
}

// Conflict returns one of them with its rows.
func (o *Operator) Conflict(ctx context.Context, id string) (k core.Conflict, err error) {
	err = o.ofConflict(ctx, "/operate/conflicts/show", node.ConflictRequest{ID: id}, &k)
	return k, err
}

// Resolve ends a conflict: with core.KeepHere or core.TakeTail.
func (o *Operator) Resolve(ctx context.Context, id, resolution string) error {
	if resolution != core.KeepHere && resolution != core.TakeTail {
		return region.Errorf(region.BadInput, "resolution %q: want %s or %s", resolution, core.KeepHere, core.TakeTail)
	}
	if _, err := o.Conflict(ctx, id); err != nil {
		return err
	}
	key, err := o.Dir.Key("operator")
	if err != nil {
		return err
	}
	err = o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		return o.audit(key, Entry{Did: "conflict resolve " + id + " --" + resolution, World: k.Hash})
	})
	if err != nil {
		return err
	}
	return o.ofConflict(ctx, "/operate/conflicts/resolve", node.ConflictRequest{ID: id, Resolution: resolution}, nil)
}

// ofConflict asks the region that acts for the conflict's owner.
func (o *Operator) ofConflict(ctx context.Context, path string, q node.ConflictRequest, a any) error {
	if _, err := core.ParseConflictID(q.ID); err != nil {
		return err
	}
	return o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		return o.whoActs(ctx, k.World, path, q, a)
	})
}

// NewConflictCommand returns `homing conflict`.
func NewConflictCommand(env Env) *cobra.Command {
	c := &commands{env: env}
	cmd := &cobra.Command{
		Use: "conflict", Short: "What two regions wrote at once, for an admin to decide",
		Long: `A region that was cut off goes on serving until it hears that another one acts for
it. What it wrote meanwhile is merged afterwards, but for batches with rows that
were changed on both sides: those are conflicts, kept whole. Blocks, revoked
devices and removals from groups hold, whichever side made them, until
the conflict is resolved. Each command is signed with the operator's key.`,
	}
	cmd.PersistentFlags().StringVar(&c.dir, "dir", "", "operator's directory: world.yaml, ledger.jsonl, keys/")
	cmd.AddCommand(c.conflictList(), c.conflictShow(), c.conflictResolve())
	return cmd
}

func (c *commands) conflictList() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "All open conflicts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			list, silent, err := o.Conflicts(cmd.Context(), all)
			if err != nil {
				return err
			}
			for _, k := range list {
				state := "open"
				if k.Resolution != "" {
					state = "resolved: " + k.Resolution
				}
				_, _ = fmt.Fprintf(c.env.Out, "%-28s %s  %s: %s\n", k.ID, time.UnixMilli(k.UnixMilli).UTC().Format(time.RFC3339), state, k.Reason)
			}
			if len(list) == 0 {
				_, _ = fmt.Fprintln(c.env.Out, "no conflicts")
			}
			for _, id := range silent {
				_, _ = fmt.Fprintf(c.env.Out, "region %s does not answer: its conflicts are not listed\n", id)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those that are resolved, too")
	return cmd
}

func (c *commands) conflictShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "One conflict: the rows of both sides", Args: cobra.ExactArgs(1),
		Example: "  homing conflict show 1000007/sh/3/42",
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			k, err := o.Conflict(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.env.Out, "%s: records %d to %d of %s, partition %d, of %d\n%s\n", k.ID, k.ID.Sequence, k.Last, k.ID.Origin, k.ID.Partition, k.ID.Owner, k.Reason)
			for _, r := range k.Rows {
				_, _ = fmt.Fprintf(c.env.Out, "%s %s\n  tail: %s\n  here: %s\n", r.Table, r.Row, r.Tail, r.Here)
			}
			if len(k.Rows) == 0 {
				_, _ = fmt.Fprintln(c.env.Out, "no row differs any more, or the batch was too large to be kept")
			}
			return nil
		},
	}
}

func (c *commands) conflictResolve() *cobra.Command {
	var keep, tail, yes bool
	cmd := &cobra.Command{
		Use: "resolve ID --keep | --tail", Short: "Decide which side's rows stay", Args: cobra.ExactArgs(1),
		Example: "  homing conflict resolve 1000007/sh/3/42 --tail",
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			resolution := core.KeepHere
			if tail {
				resolution = core.TakeTail
			}
			if !yes && !c.typed(args[0]) {
				return region.Errorf(region.BadInput, "nothing was done").WithHint("type the conflict's ID, or say --yes")
			}
			if err := o.Resolve(cmd.Context(), args[0], resolution); err != nil {
				return err
			}
			_, _ = fmt.Fprintln(c.env.Out, "resolved")
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&keep, "keep", false, "what the acting region wrote since stays; what the tail restricted is allowed again, but for revoked devices")
	f.BoolVar(&tail, "tail", false, "the rows of the tail replace it")
	f.BoolVar(&yes, "yes", false, "do not ask")
	cmd.MarkFlagsOneRequired("keep", "tail")
	cmd.MarkFlagsMutuallyExclusive("keep", "tail")
	return cmd
}

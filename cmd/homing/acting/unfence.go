package acting

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// Unfence is the operator's word that a region which has just started may admit
// writes without having compared worlds with a majority of the voters.
//
// Errors: Unavailable when the region does not answer.
func (o *Operator) Unfence(ctx context.Context, id region.ID) error {
	key, err := o.Dir.Key("operator")
	if err != nil {
		return err
	}
	return o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		r, ok := k.World.Region(id)
		if !ok {
			return region.Errorf(region.BadInput, "world %d has no region %s", k.World.Version, id)
		}
		if err := o.audit(key, Entry{Did: "region unfence --alone " + string(id), World: k.Hash}); err != nil {
			return err
		}
		return o.operate(ctx, r, "/operate/unfence", struct{}{}, nil)
	})
}

func (c *commands) unfence() *cobra.Command {
	var alone, yes bool
	cmd := &cobra.Command{
		Use: "unfence REGION --alone", Short: "Let a region that has started go on without the other voters",
		Long: `A region that starts admits nothing until it has compared worlds with a majority of
the voters: another one may act for it by now. Say this only when the others are
gone, or known to have no newer world.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.env.Out, "plan: region %s admits writes by the newest world it has, without asking other voters\n", args[0])
			if !yes && !c.typed(args[0]) {
				return region.Errorf(region.BadInput, "nothing was done").WithHint("type the region's name, or say --yes")
			}
			if err := o.Unfence(cmd.Context(), region.ID(args[0])); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.env.Out, "%s admits writes\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&alone, "alone", false, "the other voters cannot be asked")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	_ = cmd.MarkFlagRequired("alone")
	return cmd
}

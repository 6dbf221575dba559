package acting

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// Fence is the operator's word that a region admits no writes, whatever the world
// says, until it is unfenced. The region remembers it over restarts.
//
// Errors: Unavailable when the region does not answer.
func (o *Operator) Fence(ctx context.Context, id region.ID) error {
	return o.ofRegion(ctx, id, "region fence "+string(id), "/operate/fence", node.FenceRequest{})
}

// Unfence takes Fence back.
//
// Errors: Unavailable when the region does not answer.
func (o *Operator) Unfence(ctx context.Context, id region.ID) error {
	return o.ofRegion(ctx, id, "region unfence "+string(id), "/operate/fence", node.FenceRequest{Lift: true})
}

// UnfenceAlone is the operator's word that a region which has just started may
// admit writes without having compared worlds with a majority of the voters.
//
// Errors: Unavailable when the region does not answer.
func (o *Operator) UnfenceAlone(ctx context.Context, id region.ID) error {
	return o.ofRegion(ctx, id, "region unfence --alone "+string(id), "/operate/unfence", struct{}{})
}

// ofRegion asks one region to do something, which is written down first.
func (o *Operator) ofRegion(ctx context.Context, id region.ID, did, path string, q any) error {
	key, err := o.Dir.Key("operator")
	if err != nil {
		return err
	}
	return o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		r, ok := k.World.Region(id)
		if !ok {
			return region.Errorf(region.BadInput, "world %d has no region %s", k.World.Version, id)
		}
		if err := o.audit(key, Entry{Did: did, World: k.Hash}); err != nil {
			return err
		}
		return o.operate(ctx, r, path, q, nil)
	})
}

func (c *commands) fence() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "fence REGION", Short: "Have a region admit no writes, until it is unfenced",
		Long: `The region refuses writes, retryably, and goes on reading and copying. It remembers
that over restarts. Nobody else acts for it: that is what switchover is for.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			if err := c.sure(args[0], yes, "plan: region %s admits no writes until `homing region unfence %s`; its users wait\n", args[0], args[0]); err != nil {
				return err
			}
			if err := o.Fence(cmd.Context(), region.ID(args[0])); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.env.Out, "%s admits no writes\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (c *commands) unfence() *cobra.Command {
	var alone, yes bool
	cmd := &cobra.Command{
		Use: "unfence REGION", Short: "Let a region that was fenced, or has started alone, admit writes",
		Long: `What an admin fenced admits writes again, as far as the world allows.

A region that starts admits nothing until it has compared worlds with a majority of
the voters: another one may act for it by now. Say --alone only when the others are
gone, or known to have no newer world.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			how := ""
			if alone {
				how = ", without asking other voters"
			}
			if err := c.sure(args[0], yes, "plan: region %s admits writes by the newest world it has%s\n", args[0], how); err != nil {
				return err
			}
			if err := o.Unfence(cmd.Context(), region.ID(args[0])); err != nil {
				return err
			}
			if alone {
				if err := o.UnfenceAlone(cmd.Context(), region.ID(args[0])); err != nil {
					return err
				}
			}
			_, _ = fmt.Fprintf(c.env.Out, "%s admits writes\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&alone, "alone", false, "the other voters cannot be asked")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// sure shows a plan of one line, and asks for the region's name unless yes is
// said.
func (c *commands) sure(name string, yes bool, format string, args ...any) error {
	_, _ = fmt.Fprintf(c.env.Out, format, args...)
	if !yes && !c.typed(name) {
		return region.Errorf(region.BadInput, "nothing was done").WithHint("type the region's name, or say --yes")
	}
	return nil
}

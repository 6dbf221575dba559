package acting

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// movePatience bounds the wait for a move; past it the move goes on by itself.
const movePatience = 30 * time.Second

// MovePlan says what a move of a user would take along, and from where.
type MovePlan struct {
	node.MovePlan
	To     region.ID
	Acting region.ID // for To
	Answer bool      // that region answers
}

// Refusal says why the plan must not be carried out.
func (p *MovePlan) Refusal() error {
	switch {
	case p.Home == p.To:
		return region.Errorf(region.BadInput, "%d lives in %s already", p.UIN, p.To)
	case !p.Answer:
		return region.Errorf(region.Unavailable, "region %s, which acts for %s, does not answer", p.Acting, p.To).WithHint("wait until it is back, or fail it over")
	case p.Behind > 0:
		return region.Errorf(region.Conflict, "%d ranges of %s are open: the user's records may still come", p.Behind, p.Home).WithHint("wait until the region before has returned; see: homing region report %s", p.Home)
	}
	return nil
}

// PlanMove makes a plan. Errors: NotFound; BadInput for a region that is none;
// Unavailable when the region that acts for the user does not answer.
func (o *Operator) PlanMove(ctx context.Context, uin region.UIN, to region.ID) (*MovePlan, error) {
	p := &MovePlan{To: to}
	err := o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		home, ok := k.World.Region(to)
		if !ok {
			return region.Errorf(region.BadInput, "world %d has no region %s", k.World.Version, to)
		}
		p.Acting = home.Acting.Region
		if target, ok := k.World.Region(p.Acting); ok {
			_, err := o.status(ctx, target)
			p.Answer = err == nil
		}
		return o.whoActs(ctx, k.World, "/operate/move/plan", node.MoveRequest{UIN: uint64(uin), To: to}, &p.MovePlan)
	})
	return p, err
}

// Move carries a plan out, and returns when the user lives in the new home.
func (o *Operator) Move(ctx context.Context, p *MovePlan) (node.Moved, error) {
	var moved node.Moved
	if err := p.Refusal(); err != nil {
		return moved, err
	}
	key, err := o.Dir.Key("operator")
	if err != nil {
		return moved, err
	}
	patient := *o
	patient.Client = &http.Client{Timeout: movePatience, Transport: o.Client.Transport}
	err = o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		if err := o.audit(key, Entry{Did: fmt.Sprintf("user move %d --to %s", p.UIN, p.To), World: k.Hash}); err != nil {
			return err
		}
		from, ok := k.World.Region(p.From)
		if !ok {
			return region.Errorf(region.Conflict, "world %d has no region %s", k.World.Version, p.From).WithHint("plan again")
		}
		return patient.operate(ctx, from, "/operate/move", node.MoveRequest{UIN: uint64(p.UIN), To: p.To}, &moved)
	})
	return moved, err
}

// NewMoveCommand returns `homing user move`.
func NewMoveCommand(env Env) *cobra.Command {
	c := &commands{env: env}
	var to string
	var dry, yes bool
	cmd := &cobra.Command{
		Use: "move UIN --to REGION", Short: "Have another region be a user's home",
		Long: `The user's records are copied while writes are refused, retryably; then the region
that gives the user away signs that, and clients are led to the new home.`,
		Example: "  homing user move 1000001 --to hk", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			uin, err := region.ParseUIN(args[0])
			if err != nil {
				return err
			}
			o, err := c.operator()
			if err != nil {
				return err
			}
			p, err := o.PlanMove(cmd.Context(), uin, region.ID(to))
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.env.Out, "plan: move of user %d from home %s to %s, the user's move number %d\n  %s answers and has %d rows, %d bytes; writes are refused while they are copied\n",
				uin, p.Home, p.To, p.Moves+1, p.From, p.Rows, p.Bytes)
			if err := p.Refusal(); err != nil || dry {
				return err
			}
			if !yes && !c.typed(args[0]) {
				return region.Errorf(region.BadInput, "nothing was done").WithHint("type the user's number, or say --yes")
			}
			moved, err := o.Move(cmd.Context(), p)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(c.env.Out, "%d lives in %s: %d rows, %d bytes; writes were refused for %.2f s\n", uin, p.To, moved.Rows, moved.Bytes, moved.Fenced)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.dir, "dir", "", "operator's directory: world.yaml, ledger.jsonl, keys/")
	f.StringVar(&to, "to", "", "the new home")
	f.BoolVar(&dry, "dry-run", false, "show the plan, do nothing")
	f.BoolVar(&yes, "yes", false, "do not ask")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

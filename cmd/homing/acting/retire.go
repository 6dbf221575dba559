package acting

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// RetirePlan is what no longer waiting for a region would do, or waiting for it
// again.
type RetirePlan struct {
	Region  region.ID `json:"region"`
	Back    bool      `json:"back"`    // wait for it again
	World   uint64    `json:"world"`   // the one that is there
	Answers bool      `json:"answers"` // the region does

	Acts   []region.ID `json:"acts"`   // homes that it acts for
	First  []region.ID `json:"first"`  // regions whose first backup it is; the next one is, then
	Open   int         `json:"open"`   // ranges of its journal that may be missing, and count as lost then
	Silent []region.ID `json:"silent"` // who acts for a home and could not be asked for open ranges
}

// PlanRetire makes a plan. Errors: BadInput for a change that makes no sense.
func (o *Operator) PlanRetire(ctx context.Context, id region.ID, back bool) (p *RetirePlan, err error) {
	err = o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		p, err = o.planRetire(ctx, k, id, back)
		return err
	})
	return p, err
}

func (o *Operator) planRetire(ctx context.Context, k *region.Known, id region.ID, back bool) (*RetirePlan, error) {
	r, ok := k.World.Region(id)
	switch {
	case !ok:
		return nil, region.Errorf(region.BadInput, "world %d has no region %s", k.World.Version, id)
	case r.Away && !back:
		return nil, region.Errorf(region.BadInput, "nobody waits for region %s already", id)
	case !r.Away && back:
		return nil, region.Errorf(region.BadInput, "region %s is waited for already", id)
	}
	p := &RetirePlan{Region: id, Back: back, World: k.World.Version}
	_, err := o.status(ctx, r)
	p.Answers = err == nil
	v, err := revise(k)
	if err != nil {
		return nil, err
	}
	if !back {
		p.First = v.last(id)
	}
	asked := map[region.ID]bool{id: true}
	for i := range k.World.Regions {
		home := &k.World.Regions[i]
		if home.Acting.Region == id {
			p.Acts = append(p.Acts, home.ID)
		}
		acting, _ := k.World.Region(home.Acting.Region)
		if asked[acting.ID] {
			continue
		}
		asked[acting.ID] = true
		rep, err := o.Report(ctx, acting)
		if err != nil {
			p.Silent = append(p.Silent, acting.ID)
			continue
		}
		for _, h := range rep.Homes {
			for _, open := range h.Open {
				if open.Origin == id {
					p.Open++
				}
			}
		}
	}
	return p, nil
}

// Refusal says why the plan must not be carried out.
func (p *RetirePlan) Refusal() error {
	if !p.Back && len(p.Acts) > 0 {
		return region.Errorf(region.Conflict, "region %s acts for %s", p.Region, words(p.Acts)).WithHint("have another one act first: homing region failover %s", p.Acts[0])
	}
	return nil
}

// Print says the plan to people.
func (p *RetirePlan) Print(w io.Writer) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	if p.Back {
		say("plan: region %s is waited for again (world %d)", p.Region, p.World)
		say("  journals are kept for it; what was trimmed meanwhile it makes up for by comparing rows")
		return
	}
	say("plan: nobody waits for region %s any more (world %d)", p.Region, p.World)
	if p.Answers {
		say("  %s ANSWERS: it goes on copying as far as journals reach", p.Region)
	}
	say("  the other regions trim their journals without it; when it is back it begins anew by comparing rows")
	if p.Open > 0 {
		say("  %d OPEN RANGES of what it acknowledged count as LOST, unless it returns", p.Open)
	}
	for _, id := range p.First {
		say("  %s loses its first backup; the next one begins its copy at once", id)
	}
	for _, id := range p.Silent {
		say("  %s does not answer: whether ranges are open there is not known", id)
	}
}

// Retire carries a plan out. It returns when the world is delivered.
//
// Errors: that of [RetirePlan.Refusal]; Conflict when the world has changed since
// the plan was made; Unavailable when too few voters accepted.
func (o *Operator) Retire(ctx context.Context, p *RetirePlan) error {
	if err := p.Refusal(); err != nil {
		return err
	}
	return o.withWorld(func(l *worldfile.Ledger, k *region.Known) error {
		if k.World.Version != p.World {
			return planAgain(k)
		}
		v, err := revise(k)
		if err != nil {
			return err
		}
		did := "region retire " + string(p.Region)
		if p.Back {
			did += " --undo"
		} else {
			v.last(p.Region)
		}
		v.away(p.Region, !p.Back)
		report, err := o.publish(ctx, l, k, v, false, Entry{Did: did}, func(*region.Signed) {})
		if err != nil {
			return err
		}
		o.say("world %d is delivered to %d nodes, accepted by %d voters", v.world.Version, len(report.Delivered), len(report.Accepted))
		return nil
	})
}

func planAgain(k *region.Known) error {
	return region.Errorf(region.Conflict, "world %d was signed since the plan was made", k.World.Version).WithHint("plan again")
}

func words(ids []region.ID) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = string(id)
	}
	return strings.Join(s, ", ")
}

func (c *commands) retire() *cobra.Command {
	var undo, dry, yes bool
	cmd := &cobra.Command{
		Use: "retire REGION", Short: "Wait no longer for a region that is gone for a long time, or for good",
		Long: `Journals are kept until every region has them. One that does not come back would
have them grow for ever, but for the byte budget of each (journal.budget of its
node). Say that nobody waits for it: the others trim without it, the next backup
takes its place, and what it alone has counts as lost in reports. When it returns it
begins anew by comparing rows; then say --undo.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			p, err := o.PlanRetire(cmd.Context(), region.ID(args[0]), undo)
			if err != nil {
				return err
			}
			p.Print(c.env.Out)
			if err := p.Refusal(); err != nil || dry {
				return err
			}
			if !yes && !c.typed(args[0]) {
				return region.Errorf(region.BadInput, "nothing was done").WithHint("type the region's name, or say --yes")
			}
			return o.Retire(cmd.Context(), p)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&undo, "undo", false, "wait for it again")
	f.BoolVar(&dry, "dry-run", false, "show the plan, do nothing")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

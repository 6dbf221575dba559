package acting

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// Env is what the commands need from the program around them.
type Env struct {
	In  io.Reader
	Out io.Writer
	// Dir finds the operator's directory when --dir is not given.
	Dir func() (string, error)
}

type commands struct {
	env Env
	dir string
}

// deadNode is how long a node that does not answer holds a command up.
const deadNode = 2 * time.Second

// NewCommand returns `homing region`.
func NewCommand(env Env) *cobra.Command {
	c := &commands{env: env}
	cmd := &cobra.Command{
		Use: "region", Short: "Change who acts for a region, and see how it stands",
		Long: `A region can be served by another one: planned (switchover), or because it is gone
(failover). Each command shows its plan first. They need the operator's directory
with its key, and the region that shall act; nothing else has to be up.`,
		Args: cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVar(&c.dir, "dir", "", "operator's directory: world.yaml, ledger.jsonl, keys/")
	cmd.AddCommand(
		c.change(Switchover, "Have another region act, losing nothing", "The region that acts ends its term in every partition; the other one takes a partition over\nwhen it has everything before that. Writes are refused meanwhile, and clients retry them."),
		c.change(Failover, "Have another region act for one that is gone", "The other region takes over with what it has. What may be missing is reported, and\nmerged when the region returns."),
		c.change(Failback, "Have a region act for itself again", "A switchover home."),
		c.report(), c.fence(), c.unfence(), c.retire())
	return cmd
}

func (c *commands) operator() (*Operator, error) {
	dir := c.dir
	if dir == "" {
		var err error
		if dir, err = c.env.Dir(); err != nil {
			return nil, fmt.Errorf("which world? give --dir: %w", err)
		}
	}
	return &Operator{Dir: worldfile.Directory{Dir: dir}, Client: &http.Client{Timeout: deadNode, Transport: pki.Caller(func() (string, error) { return dir, nil })}, Out: c.env.Out}, nil
}

func (c *commands) change(kind Kind, short, long string) *cobra.Command {
	var to, newBackup string
	var dry, yes bool
	var accepted Accepted
	cmd := &cobra.Command{
		Use: string(kind) + " REGION", Short: short, Long: long, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			p, err := o.Plan(cmd.Context(), Wish{kind, region.ID(args[0]), region.ID(to), region.ID(newBackup)})
			if err != nil {
				return err
			}
			if accepted.Loss && !p.HasCopy {
				if p.Lost, err = o.Lose(cmd.Context(), p); err != nil {
					return err
				}
			}
			p.Print(c.env.Out)
			if err := p.Refusal(accepted); err != nil || dry {
				return err
			}
			if !yes && !c.typed(args[0]) {
				return region.Errorf(region.BadInput, "nothing was done").WithHint("type the region's name, or say --yes")
			}
			out, err := o.Execute(cmd.Context(), p, accepted)
			if out != nil {
				c.outcome(out)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "show the plan, do nothing")
	f.BoolVar(&yes, "yes", false, "do not ask")
	if kind != Failback {
		f.StringVar(&to, "to", "", "region that shall act (default the home's backup)")
		f.StringVar(&newBackup, "new-backup", "", "region that begins a second copy at once, for the time that the home is gone")
	}
	f.BoolVar(&accepted.Overload, "accept-overload", false, "take over although there is no room for the peaks of both")
	if kind == Failover {
		f.BoolVar(&accepted.Loss, "accept-loss", false, "take over without a copy that is caught up, or with ranges open; lists what would vanish")
	}
	return cmd
}

// typed asks for the region's name.
func (c *commands) typed(name string) bool {
	_, _ = fmt.Fprintf(c.env.Out, "type %s to go on: ", name)
	line, _ := bufio.NewReader(c.env.In).ReadString('\n')
	return line == name+"\n" || line == name
}

func (c *commands) outcome(out *Outcome) {
	if n := len(out.Home.Open); n > 0 {
		_, _ = fmt.Fprintf(c.env.Out, "report: %d open ranges; what %s acknowledged in them may be missing until it returns\n", n, out.Plan.From)
		for _, r := range out.Home.Open {
			_, _ = fmt.Fprintf(c.env.Out, "  partition %d: everything after sequence %d, last contact %s\n", r.Partition, r.After, contact(r.LastContact))
		}
	} else if out.Serving > 0 {
		_, _ = fmt.Fprintln(c.env.Out, "report: nothing was lost")
	}
	_, _ = fmt.Fprintf(c.env.Out, "report: %s\n", out.File)
}

func contact(milli int64) string {
	if milli == 0 {
		return "never"
	}
	return time.UnixMilli(milli).UTC().Format("2006-01-02 15:04:05.000 UTC")
}

func (c *commands) report() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "report [REGION]", Short: "Show how the ownership of homes stands, and what may be missing", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := c.operator()
			if err != nil {
				return err
			}
			return o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
				return c.print(cmd.Context(), o, k.World, args, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *commands) print(ctx context.Context, o *Operator, w *region.World, homes []string, asJSON bool) error {
	shown := 0
	for i := range w.Regions {
		home := &w.Regions[i]
		if len(homes) > 0 && homes[0] != string(home.ID) {
			continue
		}
		shown++
		acting, _ := w.Region(home.Acting.Region)
		rep, err := o.Report(ctx, acting)
		if err != nil {
			_, _ = fmt.Fprintf(c.env.Out, "%s: %s acts, and does not answer\n", home.ID, acting.ID)
			continue
		}
		found := false
		for _, h := range rep.Homes {
			if h.Home != home.ID {
				continue
			}
			found = true
			if changed, err := o.Settle(h); err != nil {
				return err
			} else if changed && !asJSON {
				_, _ = fmt.Fprintf(c.env.Out, "%s: the report of the last change is brought up to date\n", h.Home)
			}
			if asJSON {
				if err := json.NewEncoder(c.env.Out).Encode(h); err != nil {
					return err
				}
				continue
			}
			_, _ = fmt.Fprintf(c.env.Out, "%s: %s acts at term %s, %d of %d partitions; before it %s; %d open ranges; of its tail %d batches applied, %d known, %d conflicts\n",
				h.Home, h.Acting, h.Term, h.Opened, h.Partitions, h.Before, len(h.Open), h.Merged.Applied, h.Merged.Known, h.Merged.Conflicts)
			for _, r := range h.Lost {
				_, _ = fmt.Fprintf(c.env.Out, "  partition %d: LOST, everything of %s after sequence %d, unless it returns\n", r.Partition, r.Origin, r.After)
			}
			for _, r := range h.Open {
				_, _ = fmt.Fprintf(c.env.Out, "  partition %d: everything of %s after sequence %d, last contact %s\n", r.Partition, r.Origin, r.After, contact(r.LastContact))
			}
		}
		if !found && !asJSON {
			_, _ = fmt.Fprintf(c.env.Out, "%s: acts for itself, and always did\n", home.ID)
		}
	}
	if shown == 0 {
		return region.Errorf(region.NotFound, "world %d has no region %s", w.Version, homes[0])
	}
	return nil
}

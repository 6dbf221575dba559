// Package world is the operator's side of the signed world: the commands
// `homing world init|show|check|diff|sign|push`. They need the operator's
// directory and, to push, some nodes; no server has to be up for the others.
package world

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/worldfile"
)

// Env is what the commands need from the program around them.
type Env struct {
	Out    io.Writer
	Client *http.Client // to nodes; nil is a client with a timeout of 10 s
	// Dir finds the operator's directory when --dir is not given, such as that
	// of the running demo; nil is the current directory.
	Dir func() (string, error)
}

type commands struct {
	env     Env
	dir     string
	file    string
	keys    []string
	to      []string
	parents []string
	forced  bool
	options worldfile.Options
	regions []string
}

// NewCommand returns `homing world`. Its errors are one line each; the caller
// prints them.
func NewCommand(env Env) *cobra.Command {
	c := &commands{env: env}
	if env.Client == nil {
		c.env.Client = &http.Client{Timeout: 10 * time.Second, Transport: pki.Caller(func() (string, error) {
			d, err := c.directory()
			return d.Dir, err
		})}
	}
	cmd := &cobra.Command{
		Use:   "world",
		Short: "Make, check, sign and push the world: who acts for whom",
		Long: `The world is the signed document that says which regions, POPs and other nodes
there are, whose numbers are whose, who acts for whom, and how clients are
steered. Edit DIR/world.yaml, then: check, diff, sign, push.

Nodes believe a world signed with the operator key of the world before it, once
a majority of the voters (regions and witnesses) has accepted it.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&c.dir, "dir", "", "operator's directory: world.yaml, ledger.jsonl, keys/")
	cmd.AddCommand(c.init(), c.show(), c.check(), c.diff(), c.sign(), c.push())
	return cmd
}

func (c *commands) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.env.Out, format, args...) // a closed pipe is the reader's wish
}

// directory is --dir, else what the program around knows.
func (c *commands) directory() (worldfile.Directory, error) {
	if c.dir != "" {
		return worldfile.Directory{Dir: c.dir}, nil
	}
	if c.env.Dir == nil {
		return worldfile.Directory{Dir: "."}, nil
	}
	dir, err := c.env.Dir()
	if err != nil {
		return worldfile.Directory{}, fmt.Errorf("which world? give --dir: %w", err)
	}
	return worldfile.Directory{Dir: dir}, nil
}

// withLedger opens the ledger of a directory that has one.
func (c *commands) withLedger(do func(worldfile.Directory, *worldfile.Ledger) error) (err error) {
	d, err := c.directory()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(d.Dir, worldfile.LedgerName)); err != nil {
		return region.Errorf(region.NotFound, "there is no world in %s", d.Dir).WithHint("`homing world init --dir %s` makes one", d.Dir)
	}
	l, err := d.Ledger()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return do(d, l)
}

func (c *commands) init() *cobra.Command {
	cmd := &cobra.Command{
		Use: "init", Short: "Make a world: keys, world.yaml and the first signature", Args: cobra.NoArgs,
		Long: `Makes DIR/world.yaml, a key for the operator, the root and every node, and signs
world 1. With --file the world file is taken from there and keys are made for
the nodes that have none; otherwise a small world of --regions is made, to be
edited.

Nodes pin the root key, DIR/keys/root.pub. Move DIR/keys/root.pem offline: it
outranks the operator key and is needed only to replace it.`,
		Example: `  homing world init --dir w --name demo --zone demo.test --regions sh,hk,ca
  homing world init --dir w --file deploy/world.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.directory()
			if err != nil {
				return err
			}
			o := c.options
			o.Dir = d.Dir
			for _, r := range c.regions {
				o.Regions = append(o.Regions, region.ID(r))
			}
			if c.file != "" {
				if o.Source, err = os.ReadFile(c.file); err != nil {
					return err
				}
			}
			made, e, err := worldfile.Init(o)
			if err != nil {
				return err
			}
			root, err := made.Root()
			if err != nil {
				return err
			}
			c.printf("world 1 %s is signed; edit %s\n", e.Signed.Hash().Short(), made.File())
			c.printf("root key to pin on nodes: %s\n", root)
			c.printf("now move %s offline\n", made.KeyFile("root"))
			return nil
		},
	}
	cmd.Flags().StringVar(&c.file, "file", "", "world file to begin with, such as deploy/world.yaml")
	cmd.Flags().StringVar(&c.options.Name, "name", "homing", "name of the world; never changes")
	cmd.Flags().StringVar(&c.options.Zone, "zone", "im.test", "DNS zone of the service")
	cmd.Flags().StringSliceVar(&c.regions, "regions", []string{"sh", "hk", "ca"}, "region IDs")
	cmd.Flags().IntVar(&c.options.Partitions, "partitions", 64, "partitions of every region's store; never changes")
	return cmd
}

func (c *commands) show() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show [VERSION|HASH]", Short: "Show a signed world as a world file", Args: cobra.MaximumNArgs(1),
		Long: "Shows the newest world of the ledger, the one named, or the one a node has (--to).",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(c.to) > 0 {
				k, err := c.running(cmd.Context())
				if err != nil {
					return err
				}
				return c.print(k)
			}
			return c.withLedger(func(_ worldfile.Directory, l *worldfile.Ledger) error {
				if len(args) == 0 {
					for _, k := range l.Tips() {
						if err := c.print(k); err != nil {
							return err
						}
					}
					return nil
				}
				k, ok := l.Find(args[0])
				if !ok {
					return region.Errorf(region.NotFound, "no world %q was signed here", args[0]).WithHint("give a version or the first 8 digits of a hash")
				}
				return c.print(k)
			})
		},
	}
	c.toFlag(cmd)
	return cmd
}

func (c *commands) print(k *region.Known) error {
	c.printf("# hash %s\n", k.Hash)
	for i := range k.World.Regions {
		r := &k.World.Regions[i]
		c.printf("# %s acts for %s, counter %d\n", r.Acting.Region, r.ID, r.Acting.Counter)
	}
	c.printf("%s", worldfile.Show(k.World))
	return nil
}

func (c *commands) toFlag(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&c.to, "to", nil, "admin URL of a node, such as http://127.0.0.1:7400; may be repeated")
}

// running returns the world that the first node of --to has. It is shown, not
// believed.
func (c *commands) running(ctx context.Context) (*region.Known, error) {
	e, err := keeper.Newest(ctx, c.env.Client, c.to[0])
	if err != nil {
		return nil, err
	}
	w, err := e.Signed.Decode()
	if err != nil {
		return nil, err
	}
	return &region.Known{Signed: e.Signed, World: w, Hash: e.Signed.Hash()}, nil
}

func (c *commands) check() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check", Short: "Check the world file", Args: cobra.NoArgs,
		Long: "Checks DIR/world.yaml, or --file, by itself and, where there is a ledger, as a successor of the newest signed world. Signs nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.directory()
			if err != nil && c.file == "" {
				return err
			}
			path := c.file
			if path == "" {
				path = d.File()
			} else if c.dir == "" {
				d.Dir = filepath.Dir(path)
			}
			var parents []*region.Known
			if _, err := os.Stat(filepath.Join(d.Dir, worldfile.LedgerName)); err == nil {
				l, err := d.Ledger()
				if err != nil {
					return err
				}
				parents = l.Tips()
				if err := l.Close(); err != nil {
					return err
				}
			}
			w, err := worldfile.CompileFile(path, parents...)
			if err != nil {
				return err
			}
			if err := faults(path, w); err != nil {
				return err
			}
			c.printf("%s: good for world %d: %d regions, %d POPs, %d segments, %d rules, %d voters of which %d decide\n",
				path, w.Version, len(w.Regions), len(w.POPs), len(w.Segments), len(w.Rules), len(w.Voters()), w.Majority())
			return nil
		},
	}
	cmd.Flags().StringVar(&c.file, "file", "", "world file to check instead of DIR/world.yaml")
	return cmd
}

func (c *commands) diff() *cobra.Command {
	cmd := &cobra.Command{
		Use: "diff", Short: "Say what signing the world file would change, and for whom", Args: cobra.NoArgs,
		Long: "Compares DIR/world.yaml with the newest signed world, or with the world a node has (--to).",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withLedger(func(d worldfile.Directory, l *worldfile.Ledger) error {
				parents := l.Tips()
				if len(c.to) > 0 {
					k, err := c.running(cmd.Context())
					if err != nil {
						return err
					}
					parents = []*region.Known{k}
				}
				w, err := worldfile.CompileFile(d.File(), parents...)
				if err != nil {
					return err
				}
				c.changes(parents, w)
				return nil
			})
		},
	}
	c.toFlag(cmd)
	return cmd
}

func (c *commands) changes(parents []*region.Known, w *region.World) int {
	n := 0
	for _, p := range parents {
		for _, ch := range worldfile.Diff(p.World, w) {
			c.printf("- %s\n    affects %s\n", ch.Text, ch.Affects)
			n++
		}
	}
	if n == 0 {
		c.printf("no change\n")
	}
	return n
}

func (c *commands) sign() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sign", Short: "Sign the world file as the next world", Args: cobra.NoArgs,
		Long: `Compiles DIR/world.yaml as the successor of the newest signed world, says what
changes, signs it and records it in the ledger. Nodes learn of it by push.

The ledger will not sign two successors of one world: the nodes could split
between them. Name the first as a --parent too, and the second comes after both.

--forced makes the world take effect without a majority of the voters. Use it
when they are gone, not when they disagree: a region that is only cut off goes
on under the old world until it hears of this one.

A world in which a rule can never answer or is reached by no client, prefixes
overlap, or a region has no front door, is signed only when it is --forced, and so
is one that follows the sides of a fork and names somebody else for a home they
disagree about than who acts at the newest term.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withLedger(func(d worldfile.Directory, l *worldfile.Ledger) error {
				parents, err := c.parentsOf(l)
				if err != nil {
					return err
				}
				w, err := worldfile.CompileFile(d.File(), parents...)
				if err != nil {
					return err
				}
				paths := c.keys
				if len(paths) == 0 {
					paths = []string{d.KeyFile("operator")}
				}
				if err := faults(d.File(), w); err != nil && !c.forced {
					return err
				}
				if err := misnamed(w, parents); err != nil && !c.forced {
					return err
				}
				var keys []ed25519.PrivateKey
				for _, p := range paths {
					k, err := worldfile.ReadKey(p)
					if err != nil {
						return err
					}
					keys = append(keys, k)
				}
				if c.changes(parents, w) == 0 && !c.forced && len(parents) == 1 {
					return region.Errorf(region.BadInput, "%s says what world %d says", d.File(), w.Version-1).WithHint("edit it first; `homing world push` pushes what is signed")
				}
				s, err := l.Sign(w, parents, c.forced, keys...)
				if err != nil {
					return err
				}
				c.printf("world %d %s is signed; `homing world push` delivers it\n", s.Version, s.Hash().Short())
				return nil
			})
		},
	}
	cmd.Flags().StringSliceVar(&c.keys, "key", nil, "private key, PEM, mode 0600; may be repeated (default DIR/keys/operator.pem)")
	cmd.Flags().StringSliceVar(&c.parents, "parent", nil, "version or hash of a world it follows; may be repeated (default the newest signed)")
	cmd.Flags().BoolVar(&c.forced, "forced", false, "takes effect without a majority of the voters")
	return cmd
}

// misnamed is an error that says for which home a world that joins the sides of a
// fork names somebody else than it should, see [region.Dispute]; nil for none.
func misnamed(w *region.World, parents []*region.Known) error {
	for i := range w.Regions {
		r := &w.Regions[i]
		if acting, disputed := region.Dispute(r.ID, parents...); disputed && acting != r.Acting.Region {
			return region.Errorf(region.Conflict, "the worlds that this one follows disagree who acts for %s: it names %s, and the newest term is of %s", r.ID, r.Acting.Region, acting).
				WithHint("name %s, and %s in the world after it, or what the others acknowledged may not be merged (--forced signs it nevertheless)", acting, r.Acting.Region)
		}
	}
	return nil
}

// faults is an error that says what of a world file would break steering, and
// where; nil for nothing.
func faults(path string, w *region.World) error {
	var problems []region.Problem
	for _, f := range steer.Faults(w) {
		problems = append(problems, f.Problem())
	}
	if len(problems) == 0 {
		return nil
	}
	mistakes, err := worldfile.Locate(path, problems)
	if err != nil {
		return err
	}
	var all []string
	for _, m := range mistakes {
		all = append(all, m.Error())
	}
	return region.Errorf(region.BadInput, "%s", strings.Join(all, "; "))
}

func (c *commands) parentsOf(l *worldfile.Ledger) ([]*region.Known, error) {
	if len(c.parents) == 0 {
		return l.Tips(), nil
	}
	var out []*region.Known
	for _, name := range c.parents {
		k, ok := l.Find(name)
		if !ok {
			return nil, region.Errorf(region.NotFound, "no world %q was signed here", name).WithHint("give a version or the first 8 digits of a hash")
		}
		out = append(out, k)
	}
	return out, nil
}

func (c *commands) push() *cobra.Command {
	cmd := &cobra.Command{
		Use: "push", Short: "Have the newest signed world accepted and deliver it to all nodes", Args: cobra.NoArgs,
		Long: `Asks the voters of the world before for their acceptance and, with a majority of
them (or when the world was signed --forced), delivers the world to every node
it or its parent names, and to those of --to. Nodes that do not answer learn of
it from the others. Pushing again is harmless.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withLedger(func(_ worldfile.Directory, l *worldfile.Ledger) error {
				tips := l.Tips()
				if len(tips) != 1 {
					return region.Errorf(region.Conflict, "%d signed worlds have no successor", len(tips)).WithHint("sign one that names them all with --parent")
				}
				next := tips[0]
				nodes := append(slices.Clone(c.to), keeper.AdminURLs(next.World)...)
				voters := keeper.VoterURLs(next.World)
				for _, h := range next.Signed.Parents {
					if p, ok := l.Find(h.String()); ok {
						nodes = append(nodes, keeper.AdminURLs(p.World)...)
						voters = append(voters, keeper.VoterURLs(p.World)...)
					}
				}
				slices.Sort(voters)
				r, err := keeper.Push(cmd.Context(), c.env.Client, next.Signed, slices.Compact(voters), nodes)
				c.report(r)
				return err
			})
		},
	}
	c.toFlag(cmd)
	return cmd
}

func (c *commands) report(r keeper.Report) {
	slices.Sort(r.Accepted)
	switch {
	case r.Forced:
		c.printf("world %d %s is forced; accepted by %d voters\n", r.Version, r.Hash.Short(), len(r.Accepted))
	case r.Version > 1:
		c.printf("world %d %s: accepted by %d voters (%s), needs %d\n", r.Version, r.Hash.Short(), len(r.Accepted), strings.Join(r.Accepted, ", "), r.Needed)
	}
	c.printf("delivered to %d nodes\n", len(r.Delivered))
	var failed []string
	for url, err := range r.Failed {
		failed = append(failed, fmt.Sprintf("not delivered to %s: %s", url, strings.ReplaceAll(err.Error(), "\n", " ")))
	}
	slices.Sort(failed)
	for _, f := range failed {
		c.printf("%s\n", f)
	}
}

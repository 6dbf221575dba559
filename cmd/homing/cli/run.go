package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/homing-im/homing/cmd/homing/demo"
	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/scenario"
)

// stopTimeout is how long a node or demo may take to stop: clients are told
// and connections are closed within it.
const stopTimeout = 2500 * time.Millisecond

func newRunCommand(e *env) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "run -c node.yaml", Short: "Run the roles that a node's file lists",
		Long: "Runs the roles that a node's file lists, until it is told to stop. SIGHUP makes it read geo databases and zone files again, and the names of a stand-alone DNS server.", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if path == "" {
				return errors.New("say which node: homing run -c node.yaml")
			}
			cfg, err := node.ReadConfig(path)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no %s: say the node's file with -c", path)
			}
			if err != nil {
				return err
			}
			logger, err := newLogger(e, cfg.Log)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			n, err := startNode(c.Context(), cfg, logger)
			if err != nil {
				return err
			}
			reloadUntil(c.Context(), n, logger)
			logger.Info("stopping", "node", cfg.Name)
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			return n.Close(ctx)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "the node's file")
	return cmd
}

// runner is a node, whether it belongs to a world or not.
type runner interface {
	Reload() error
	Close(context.Context) error
}

func startNode(ctx context.Context, cfg *node.Config, logger *slog.Logger) (runner, error) {
	if cfg.Alone != nil {
		return node.StartAlone(ctx, cfg, logger)
	}
	return node.Start(ctx, cfg, node.Options{Logger: logger})
}

// reloadUntil reads the node's databases and zone files again at every SIGHUP,
// until ctx ends.
func reloadUntil(ctx context.Context, n runner, log *slog.Logger) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	for {
		select {
		case <-again:
			if err := n.Reload(); err != nil {
				log.Error("not everything was reloaded; what is wrong stays as it was", "err", err)
			} else {
				log.Info("reloaded")
			}
		case <-ctx.Done():
			return
		}
	}
}

func newLogger(e *env, l node.Log) (*slog.Logger, error) {
	var level slog.Level
	if l.Level != "" {
		if err := level.UnmarshalText([]byte(l.Level)); err != nil {
			return nil, fmt.Errorf("log.level %q: want debug, info, warn or error", l.Level)
		}
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(e.err, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(e.err, o)), nil
	default:
		return nil, fmt.Errorf("log.format %q: want text or json", l.Format)
	}
}

func newDemoCommand(e *env) *cobra.Command {
	var o demo.Options
	var story, sabotage string
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a whole world on this machine: regions, POPs, DNS, ids, queues, stores, a web page",
		Long: `Runs a whole world in one process on loopback, with nothing to install.
On Linux every region and POP has an address of its own (127.10.x.1, 127.20.x.1)
and the same ports; elsewhere all are on 127.0.0.1 with ten ports each.
All ports follow from --port-base B: long B, short B+1, web B+2, admin B+3,
queue B+4, gossip B+5; DNS B+53, HTTPDNS B+80, ids B+90, the web page B+99.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if story != "" {
				return playStory(c.Context(), e, o, story, sabotage)
			}
			if sabotage != "" {
				return errors.New("--sabotage breaks a part of a --scenario: say one")
			}
			if o.Dir == "" {
				var err error
				if o.Dir, err = endpoints.DefaultDir(); err != nil {
					return err
				}
			}
			return runDemo(c.Context(), e, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "where its state lives (default: in the user's cache directory)")
	f.StringSliceVar(&o.Regions, "regions", []string{"sh", "hk", "ca"}, "the regions, of sh,hk,ca,eu")
	f.IntVar(&o.PortBase, "port-base", demo.DefaultPortBase, "first of the ports it uses")
	f.BoolVar(&o.Fresh, "fresh", false, "forget the state of earlier runs first")
	f.BoolVar(&o.Shared, "shared-address", false, "everything on 127.0.0.1, as on systems with one loopback address")
	f.StringToStringVar(&o.Postgres, "postgres", nil, "REGION=DSN: keep this region's store in an empty PostgreSQL database (the others are embedded)")
	f.StringVar(&story, "scenario", "", "play a story with checks, then exit 0 or 1: "+scenario.Names())
	f.StringVar(&sabotage, "sabotage", "", "break a part first; the scenario must fail: "+scenario.Sabotages())
	return cmd
}

func runDemo(ctx context.Context, e *env, o demo.Options) error {
	fmt.Fprintln(e.out, "starting ...")
	o.Ready = func(at *endpoints.Endpoints) {
		if err := RegisterContext(filepath.Base(at.Dir), filepath.Join(at.Dir, endpoints.File)); err != nil {
			fmt.Fprintln(e.err, "homing: other commands will not find this demo by themselves:", oneLine(err))
		}
	}
	d, err := demo.Start(ctx, o)
	if err != nil {
		return err
	}
	d.PrintTour(e.out)
	f, isFile := e.out.(*os.File)
	d.WatchStatus(ctx, e.out, isFile && term.IsTerminal(int(f.Fd())))
	fmt.Fprintln(e.out, "\nstopping ...")
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return d.Close(stop)
}

// playStory runs a scenario in a demo of its own, in a temporary directory
// unless one is given.
func playStory(ctx context.Context, e *env, o demo.Options, story, sabotage string) error {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "homing-scenario-*")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		o.Dir = dir
	}
	return scenario.Run(ctx, e.out, o, story, sabotage)
}

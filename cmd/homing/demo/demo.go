// Package demo runs a whole world in one process on loopback: several nodes as
// homing run would start them, each from a file in the demo's directory.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
)

// Options of a demo.
type Options struct {
	Dir      string   // state; made when missing
	Regions  []string // default sh,hk,ca
	PortBase int      // default DefaultPortBase
	Fresh    bool     // forget the state in Dir first
	Shared   bool     // all on 127.0.0.1, as where loopback has one address
	Out      io.Writer
	// Postgres are the DSNs of the databases of those regions that keep their store
	// in one; the others are embedded. A database has to be empty for a new demo.
	Postgres map[string]string
	// Ready, when set, is called when every node is ready and before the endpoints
	// file appears, so that whoever waited for the file finds it done.
	Ready func(*endpoints.Endpoints)
	// Node returns the options of a node by its name; nil is none. The scenario's
	// negative controls break a part with it.
	Node func(name string) node.Options
}

// readyTimeout bounds the start: past it something is wrong that waiting does
// not cure.
const readyTimeout = time.Minute

// Demo is a running world.
type Demo struct {
	plan  *plan
	dir   string
	log   *os.File
	lock  *lock
	nodes map[string]*node.Node
	order []string
	watch *observe.Collector
	asks  *http.Transport
}

// Start brings the world up and returns when every node is ready. The
// endpoints file is there by then.
func Start(ctx context.Context, o Options) (_ *Demo, err error) {
	if len(o.Regions) == 0 {
		o.Regions = []string{"sh", "hk", "ca"}
	}
	if o.PortBase == 0 {
		o.PortBase = DefaultPortBase
	}
	p, err := newPlan(o.Regions, o.PortBase, ownAddresses() && !o.Shared)
	if err != nil {
		return nil, err
	}
	if p.postgres, err = databases(o.Regions, o.Postgres); err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	d := &Demo{plan: p, dir: o.Dir, nodes: map[string]*node.Node{}}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_ = d.Close(stop)
			err = said(err)
		}
	}()
	if err := prepare(o.Dir, o.Fresh); err != nil {
		return nil, err
	}
	if d.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	// A demo that was killed left its endpoints behind: nobody shall find it
	// before this one is ready.
	if err := os.Remove(filepath.Join(o.Dir, endpoints.File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := checkRoom(o.Dir); err != nil {
		return nil, err
	}
	if err := p.checkFree(); err != nil {
		return nil, err
	}
	if d.log, err = os.OpenFile(filepath.Join(o.Dir, "demo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	if err := (made{o.Regions, o.PortBase, !p.split, slices.Sorted(maps.Keys(o.Postgres))}).check(o.Dir); err != nil {
		return nil, err
	}
	configs, err := layOut(o.Dir, p)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.NewTextHandler(d.log, nil))
	if err := d.startNodes(ctx, configs, logger, o.Node); err != nil {
		return nil, err
	}
	d.asks = &http.Transport{MaxIdleConnsPerHost: 2}
	d.watch = observe.New(d.nodes[p.dns.id].Keeper().View, &http.Client{Transport: d.asks})
	if err := d.awaitReady(ctx); err != nil {
		return nil, err
	}
	if err := endpoints.WriteAnswerKeys(o.Dir, d.View().World); err != nil {
		return nil, err
	}
	at := d.Endpoints()
	if o.Ready != nil {
		o.Ready(at)
	}
	return d, at.Write(o.Dir)
}

// startNodes starts services first, then regions, then POPs: each finds what
// it asks for. Nodes of one rank start together.
func (d *Demo) startNodes(ctx context.Context, configs []string, logger *slog.Logger, options func(string) node.Options) error {
	ranks := map[string]int{"ids": 0, "region": 0, "pop": 1, "dns": 1}
	for rank := range 2 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		var errs []error
		for _, path := range configs {
			cfg, err := node.ReadConfig(path)
			if err != nil {
				return err
			}
			kind, _, _ := strings.Cut(cfg.Member, " ")
			if ranks[kind] != rank {
				continue
			}
			var no node.Options
			if options != nil {
				no = options(cfg.Name)
			}
			no.Logger = logger
			wg.Go(func() {
				n, err := node.Start(ctx, cfg, no)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", cfg.Name, err))
					return
				}
				d.nodes[cfg.Name] = n
				d.order = append(d.order, cfg.Name)
			})
		}
		wg.Wait()
		if len(errs) > 0 {
			return errs[0]
		}
	}
	return nil
}

// awaitReady waits until every node says so and every node that steers sees
// every POP and region: until then redirects would pass by the POPs.
func (d *Demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		why := d.notReady()
		if why == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not ready after %s: %s; see %s", readyTimeout, why, d.log.Name())
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (d *Demo) notReady() string {
	for name, n := range d.nodes {
		st := n.Status()
		if !st.Ready {
			return name + ": " + st.NotReady
		}
		if who := n.Unseen(); who != "" {
			return name + " does not see " + who + " healthy"
		}
	}
	return ""
}

// Endpoints says where everything is.
func (d *Demo) Endpoints() *endpoints.Endpoints {
	p := d.plan
	e := &endpoints.Endpoints{
		DNS: p.dns.address.String(), HTTPDNS: "http://" + p.dns.http.String(), IDs: "http://" + p.ids.address.String(),
		Console: "http://" + p.console.String(), Zone: p.zone, Regions: map[string]endpoints.Region{}, POPs: map[string]endpoints.POP{},
		CACert: filepath.Join(d.dir, "tls", "ca.pem"), OperatorKey: filepath.Join(d.dir, "world", "keys", "operator.pem"), Dir: d.dir,
	}
	for _, m := range p.regions {
		e.Regions[m.id] = endpoints.Region{Long: m.long.String(), Short: "http://" + m.short.String(), Web: "http://" + m.web.String(),
			Admin: "http://" + m.admin.String(), Queue: m.queue.String()}
	}
	for _, m := range p.pops {
		e.POPs[m.id] = endpoints.POP{Long: m.long.String(), Short: "http://" + m.short.String(), Admin: "http://" + m.admin.String(), Near: string(m.near)}
	}
	return e
}

// Node returns a node by name: a region's, a POP's or a service's ID.
func (d *Demo) Node(name string) *node.Node { return d.nodes[name] }

// Stop stops one node, as if its machine had been shut down.
func (d *Demo) Stop(ctx context.Context, name string) error {
	n := d.nodes[name]
	if n == nil {
		return fmt.Errorf("there is no node %s", name)
	}
	return n.Close(ctx)
}

// Restart starts a stopped node again, as if its machine had come back, and
// returns when it is ready.
func (d *Demo) Restart(ctx context.Context, name string) error {
	cfg, err := node.ReadConfig(filepath.Join(d.dir, "nodes", name+".yaml"))
	if err != nil {
		return err
	}
	n, err := node.Start(ctx, cfg, node.Options{Logger: slog.New(slog.NewTextHandler(d.log, nil))})
	if err != nil {
		return err
	}
	d.nodes[name] = n
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !n.Status().Ready {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %s", name, n.Status().NotReady)
		case <-tick.C:
		}
	}
	return nil
}

// View returns the world as the DNS node follows it.
func (d *Demo) View() *region.View { return d.nodes[d.plan.dns.id].Keeper().View() }

// State asks every node, and returns the picture that the web page has.
func (d *Demo) State(ctx context.Context) console.State { return d.watch.State(ctx) }

// PrintTour prints what listens where and commands to try.
func (d *Demo) PrintTour(w io.Writer) {
	d.plan.printTable(w, d.dir)
	d.plan.printTour(w)
}

// WatchStatus writes the live status line to w once a second until ctx ends:
// over itself on a terminal, a line every ten seconds elsewhere.
func (d *Demo) WatchStatus(ctx context.Context, w io.Writer, terminal bool) {
	period := 10 * time.Second
	if terminal {
		period = time.Second
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		s := d.watch.State(ctx)
		if ctx.Err() != nil {
			return
		}
		if terminal {
			fmt.Fprintf(w, "\r\x1b[K%s", statusLine(&s))
		} else {
			fmt.Fprintln(w, statusLine(&s))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close stops everything, at once and within ctx, and removes the endpoints
// file first so that nobody finds a stopping world.
func (d *Demo) Close(ctx context.Context) error {
	if d.lock == nil {
		return nil
	}
	_ = os.Remove(filepath.Join(d.dir, endpoints.File))
	if d.asks != nil {
		d.asks.CloseIdleConnections()
	}
	var mu sync.Mutex
	var errs []error
	closeAll := func(kinds ...string) {
		var wg sync.WaitGroup
		for name, n := range d.nodes {
			kind, _, _ := strings.Cut(n.Config().Member, " ")
			if !contains(kinds, kind) {
				continue
			}
			wg.Go(func() {
				if err := n.Close(ctx); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	closeAll("pop", "dns") // first what clients and answers come through
	closeAll("region", "ids")
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	errs = append(errs, d.lock.release())
	d.lock = nil
	return errors.Join(errs...)
}

func contains(s []string, v string) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

package replicator

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

// Replicator is all of a region's copying: out of its own journal, and in from
// the other regions'.
type Replicator struct {
	options Options
	metrics *metrics
	keeper  *keeper
	shipper *Shipper
	replay  *Replay
	scanner *scanner
	opened  []Queue

	registered []prometheus.Collector
}

// New starts copying. It does not wait for anybody else: brokers and regions
// that are down are tried until they answer.
func New(o Options) (*Replicator, error) {
	r, err := assemble(o)
	if err != nil {
		return nil, err
	}
	r.keeper.start()
	r.shipper.start()
	r.replay.start()
	r.scanner.start()
	if err := r.register(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// assemble makes all of a replicator but its goroutines.
func assemble(o Options) (*Replicator, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := &Replicator{options: o, metrics: newMetrics()}
	queues := o.Queues
	if len(queues) == 0 {
		var err error
		if queues, err = r.openOwn(); err != nil {
			return nil, err
		}
		r.opened = queues
	}
	peers := &httpPeers{client: o.Client, view: o.View, self: o.Self, copies: o.Store, at: o.Store}
	r.keeper = newKeeper(&r.options, peers, r.metrics)
	r.shipper = newShipper(&r.options, queues, r.keeper.oldest, r.metrics)
	r.replay = newReplay(&r.options, peers, peers, r.metrics)
	r.scanner = newScanner(&r.options, r.replay, r.metrics)
	return r, nil
}

// openOwn opens the region's own queue groups, as the world names them. A change
// of their addresses takes a restart.
func (r *Replicator) openOwn() ([]Queue, error) {
	view := r.options.View()
	if view == nil {
		return nil, errors.New("replicator: no world yet, and so no queue")
	}
	self, ok := view.World.Region(r.options.Self)
	if !ok {
		return nil, fmt.Errorf("replicator: world %d has no region %s", view.World.Version, r.options.Self)
	}
	return openGroups(&r.options, self.ID, self.QueueGroups())
}

// openGroups opens all queue groups of a region, or none.
func openGroups(o *Options, of region.ID, groups []string) (queues []Queue, err error) {
	for _, brokers := range groups {
		q, err := o.Open(of, brokers)
		if err != nil {
			for _, q := range queues {
				_ = q.Close()
			}
			return nil, err
		}
		queues = append(queues, q)
	}
	if len(queues) == 0 {
		return nil, fmt.Errorf("replicator: the world gives region %s no queue", of)
	}
	return queues, nil
}

func (r *Replicator) register() error {
	if r.options.Registry == nil {
		return nil
	}
	for _, c := range append(r.metrics.collectors(), newLagCollector(r.replay.Lag)) {
		if err := r.options.Registry.Register(c); err != nil {
			return fmt.Errorf("replicator: %w", err)
		}
		r.registered = append(r.registered, c)
	}
	return nil
}

// Shipper returns the part that copies out, to pause, resume and look at it.
func (r *Replicator) Shipper() *Shipper { return r.shipper }

// Replay returns the part that copies in, to pause, resume and look at it.
func (r *Replicator) Replay() *Replay { return r.replay }

// Lag returns how far this region is behind, per origin and stream, sorted. It
// does not block.
func (r *Replicator) Lag() []Lag { return r.replay.Lag() }

// Status is what the console shows of a region's copying.
type Status struct {
	ShipperPaused bool        `json:"shipperPaused"`
	ReplayPaused  bool        `json:"replayPaused"`
	Shipping      []ShipState `json:"shipping"`
	Replay        []Lag       `json:"replay"`
	Damaged       []Damage    `json:"damaged"`
}

// Status does not block.
func (r *Replicator) Status() Status {
	return Status{ShipperPaused: r.shipper.Paused(), ReplayPaused: r.replay.Paused(), Shipping: r.shipper.Status(), Replay: r.Lag(), Damaged: r.scanner.list()}
}

// JournalHandler serves the region's journal, heads and positions to the other
// regions, and parts of its store: see the function of that name and
// [PartHandler].
func (r *Replicator) JournalHandler() http.Handler {
	journal := JournalHandler(r.options.Store, r.options.Logger)
	if r.options.Mend == nil {
		return journal
	}
	mux := http.NewServeMux()
	mux.Handle("/", journal)
	mux.Handle("/part", PartHandler(r.options.Mend, r.options.Logger))
	return mux
}

// Close stops copying in, then out, and waits until the store is no longer
// used. What is not shipped yet is shipped after the next start.
func (r *Replicator) Close() error {
	r.scanner.close()
	r.keeper.close()
	r.replay.close()
	r.shipper.close()
	var err error
	for _, q := range r.opened {
		err = errors.Join(err, q.Close())
	}
	for _, c := range r.registered {
		r.options.Registry.Unregister(c)
	}
	return err
}

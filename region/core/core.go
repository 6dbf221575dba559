package core

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/ticket"
)

// Core is the IM core of one region. Its methods are safe for concurrent use;
// each blocks until its effect is durable, or its context ends. When the
// context ends first the effect may still happen; the same request again, with
// the same idempotency key, finds out.
type Core struct {
	o       Options
	log     *slog.Logger
	m       *metrics
	tickets *ticket.Verifier
	nonces  *nonces
	numbers *numbers
	locks   ownerLocks
	sending chan struct{} // as many as messages of senders are under way
	heads   *lru.Cache[region.UIN, head]
	kinds   *lru.Cache[region.UIN, kind]
	settled *lru.Cache[region.UIN, region.Epoch] // at which the owner was found not to be moving

	gone sync.Map // region.UIN of accounts erased by this process; those of others cannot log in

	userPace   *pacer[region.UIN]
	devicePace *pacer[deviceKey]

	stop    context.CancelFunc
	running sync.WaitGroup // one goroutine per partition, see commandLoop; one of numbers; one of retention; flights
	closing sync.RWMutex   // held by what joins running after the start
	closed  bool
}

// New starts a core on an open store. Close it before the store.
func New(o Options) (*Core, error) {
	c, err := assemble(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		c.numbers.run(ctx)
	}()
	journal, _ := o.Store.(store.Store)
	if journal != nil && o.Retention > 0 {
		c.running.Go(func() { c.retention(ctx, journal) })
	}
	for p := range o.Store.Partitions() {
		if journal == nil {
			break
		}
		l := newCommandLoop(c, journal, region.Partition(p))
		c.running.Add(1)
		go func() {
			defer c.running.Done()
			l.run(ctx)
		}()
	}
	return c, nil
}

// NewManual makes a core without goroutines, for who replays its steps from a
// seed: it hands out UINs that the Directory allots when they are asked for, and
// the second result executes what this region's own journal of a partition has
// to execute, once. That is not safe for concurrent use.
func NewManual(o Options) (*Core, func(context.Context, region.Partition) error, error) {
	c, err := assemble(o)
	if err != nil {
		return nil, nil, err
	}
	c.stop = func() {}
	s, ok := o.Store.(store.Store)
	if !ok {
		return nil, nil, region.Errorf(region.BadInput, "core: the store has no journal")
	}
	loops := make([]*commandLoop, s.Partitions())
	for p := range loops {
		loops[p] = newCommandLoop(c, s, region.Partition(p))
	}
	return c, func(ctx context.Context, p region.Partition) error { return loops[p].round(ctx) }, nil
}

// assemble makes all of a core but its goroutines.
func assemble(o Options) (*Core, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, fmt.Errorf("core: metrics: %w", err)
	}
	heads, err := lru.New[region.UIN, head](o.Heads)
	if err != nil {
		return nil, fmt.Errorf("core: inbox heads: %w", err)
	}
	kinds, err := lru.New[region.UIN, kind](o.Heads)
	if err != nil {
		return nil, fmt.Errorf("core: kinds of accounts: %w", err)
	}
	settled, err := lru.New[region.UIN, region.Epoch](o.Heads)
	if err != nil {
		return nil, fmt.Errorf("core: moves: %w", err)
	}
	nonces, err := newNonces(o.Key)
	if err != nil {
		return nil, err
	}
	userPace, err := newPacer[region.UIN](o.UserRate)
	if err != nil {
		return nil, fmt.Errorf("core: rates: %w", err)
	}
	devicePace, err := newPacer[deviceKey](o.DeviceRate)
	if err != nil {
		return nil, fmt.Errorf("core: rates: %w", err)
	}
	c := &Core{o: o, log: o.Logger.With("role", "core", "region", string(o.Self)), m: m,
		tickets: ticket.NewVerifier(0), nonces: nonces, heads: heads, kinds: kinds, settled: settled, userPace: userPace, devicePace: devicePace, sending: make(chan struct{}, maxSending)}
	c.numbers = newNumbers(c)
	return c, nil
}

// Close stops executing this region's own commands and waits for it. Requests
// under way are the caller's to end first. The error is always nil.
func (c *Core) Close() error {
	c.stop()
	c.closing.Lock()
	c.closed = true
	c.closing.Unlock()
	c.running.Wait()
	return nil
}

// join has Close wait for one more until running.Done; false when it is too late.
func (c *Core) join() bool {
	c.closing.RLock()
	defer c.closing.RUnlock()
	if !c.closed {
		c.running.Add(1)
	}
	return !c.closed
}

// view returns the newest world, or Unavailable when there is none yet.
func (c *Core) view() (*region.View, error) {
	if v := c.o.View(); v != nil {
		return v, nil
	}
	return nil, region.Errorf(region.Unavailable, "region %s has no world yet", c.o.Self).WithHint("retry; an operator pushes the world")
}

// acts returns the owner's placement when this region acts for it, and has taken
// it over. It is enough for reading.
func (c *Core) acts(owner region.UIN) (region.Placement, error) {
	v, err := c.view()
	if err != nil {
		return region.Placement{}, err
	}
	p, err := v.Admit(c.o.Self, owner)
	if err == nil && c.o.Taken != nil {
		err = c.o.Taken(p.Home, p.Epoch.Term, region.PartitionOf(owner, c.o.Store.Partitions()))
	}
	return p, err
}

// admit is asked before every write of the owner's records.
func (c *Core) admit(owner region.UIN) (region.Placement, error) {
	p, err := c.acts(owner)
	if err != nil {
		return p, err
	}
	if err := c.o.Admitting(); err != nil {
		return p, region.Errorf(region.Unavailable, "region %s admits no writes now", c.o.Self).WithHint("retry").WithCause(err)
	}
	return p, nil
}

func needUser(by Caller) error {
	if by.UIN == 0 {
		return region.Errorf(region.Unauthenticated, "this needs a ticket and a proof of the device key").WithHint("register or log in first")
	}
	return nil
}

package keeper

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// Options configure a [Keeper].
type Options struct {
	Dir    string             // created when missing, mode 0700
	Self   peer.Identity      // whose keeper it is
	Key    ed25519.PrivateKey // of the node: signs its requests, and its votes when it is a voter
	Pinned region.PublicKey   // root key (or an operator's) that the first world must be signed with

	Genesis *region.Envelope // offered at start when the directory is empty; may be nil
	Seeds   []string         // admin URLs asked while there is no world yet, such as http://10.0.0.1:7000

	Client   *http.Client // base for calls to other nodes; nil is a client with a timeout of 5 s
	Logger   *slog.Logger // nil discards
	Registry prometheus.Registerer

	// FetchInterval is the least time between two rounds of asking other nodes
	// for worlds; it bounds what a flood of false hints can cost. 1 s when 0.
	FetchInterval time.Duration
	// PollInterval is the time between rounds without a hint, for nodes that
	// gossip does not reach. 30 s when 0.
	PollInterval time.Duration
	// OverlayInterval is the time between rounds of following the overlay. A
	// stale overlay costs redirects, not correctness. 2 s when 0.
	OverlayInterval time.Duration
	// CompareInterval is the pause before a starting region asks the voters it
	// has not compared worlds with again; it doubles up to 16 times that.
	// 250 ms when 0.
	CompareInterval time.Duration
}

func (o *Options) defaults() {
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	for _, d := range []struct {
		at *time.Duration
		to time.Duration
	}{{&o.FetchInterval, time.Second}, {&o.PollInterval, 30 * time.Second}, {&o.OverlayInterval, 2 * time.Second}, {&o.CompareInterval, 250 * time.Millisecond}} {
		if *d.at <= 0 {
			*d.at = d.to
		}
	}
}

// Keeper holds the newest world of one node. It is safe for concurrent use.
type Keeper struct {
	o       Options
	log     *slog.Logger
	client  *http.Client // signs requests
	metrics *metrics
	disk    *disk
	overlay *overlay
	peers   *peer.Verifier

	view atomic.Pointer[region.View]

	mu       sync.Mutex
	chain    *region.Chain
	ballot   region.Ballot
	changed  chan struct{}
	pending  map[region.Hash]*region.Envelope // acceptances seen at voters, not yet a majority
	unready  error                            // a world that took effect but cannot be read
	fenced   *fenced                          // by an admin; nil: not
	admits   bool                             // compared worlds with a majority, or told to go on alone
	compared map[string]bool                  // voters worlds were compared with
	guard    func(*region.View) error         // see Guard; may be nil

	hints chan uint64
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

// Open loads what the directory has, offers the genesis when that is nothing,
// and starts to follow the other nodes. It does not wait for them.
//
// Errors: BadInput when options are missing or the genesis is not signed by
// the pinned key; Internal when the directory cannot be used.
func Open(o Options) (*Keeper, error) {
	o.defaults()
	if len(o.Pinned) != ed25519.PublicKeySize {
		return nil, region.Errorf(region.BadInput, "no root key is pinned").WithHint("install the key that `homing world init` printed")
	}
	if len(o.Key) != ed25519.PrivateKeySize {
		return nil, region.Errorf(region.BadInput, "%s has no key", o.Self)
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "worlds"), 0o700); err != nil {
		return nil, region.Errorf(region.Internal, "the world's directory cannot be made").WithCause(err)
	}
	d, err := openDisk(o.Dir)
	if err != nil {
		return nil, err
	}
	base := *o.Client
	base.Transport = peer.NewTransport(o.Self, o.Key, o.Client.Transport)
	k := &Keeper{
		o: o, log: o.Logger.With("node", o.Self.String()), client: &base, metrics: newMetrics(o.Registry), disk: d,
		chain: region.NewChain(o.Pinned), changed: make(chan struct{}), hints: make(chan uint64, 1),
		pending: make(map[region.Hash]*region.Envelope), compared: make(map[string]bool),
	}
	if err := k.load(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	k.peers = peer.NewVerifier(peer.Options{View: k.View, Registry: o.Registry})
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	for _, loop := range []func(context.Context){k.fetchLoop, k.compareLoop, k.overlayLoop} {
		k.wg.Add(1)
		go func() {
			defer k.wg.Done()
			loop(ctx)
		}()
	}
	return k, nil
}

// load applies the envelopes on disk, then the genesis if there were none.
func (k *Keeper) load() error {
	envelopes, err := k.disk.envelopes()
	if err != nil {
		return err
	}
	for again := true; again; { // a fork's winner may come before what it needs
		again = false
		for _, e := range envelopes {
			outcome, err := k.chain.Apply(e)
			again = again || err == nil && outcome != region.Unchanged && outcome != region.Outranked
		}
	}
	if k.ballot, err = k.disk.ballot(); err != nil {
		return err
	}
	if k.fenced, err = k.disk.fence(); err != nil {
		return err
	}
	if k.overlay, err = openOverlay(filepath.Join(k.o.Dir, "overlay.log")); err != nil {
		return err
	}
	if k.chain.Newest() == nil && len(envelopes) > 0 {
		return errors.Join(k.overlay.close(), region.Errorf(region.BadInput, "the worlds in %s are not signed by the pinned key", k.o.Dir).
			WithHint("is it another world's directory?"))
	}
	if n := k.chain.Newest(); n != nil {
		k.view.Store(region.NewView(n.World, n.Hash, k.overlay))
		k.metrics.version.Set(float64(n.World.Version))
	} else if k.o.Genesis != nil {
		if err := k.Offer(context.Background(), k.o.Genesis); err != nil {
			return errors.Join(err, k.overlay.close())
		}
	}
	return nil
}

// Close stops following, waits for every goroutine and closes the files.
func (k *Keeper) Close() error {
	k.stop()
	k.wg.Wait()
	k.client.CloseIdleConnections()
	return errors.Join(k.overlay.close(), k.disk.close())
}

// View is the newest world, with the overlay behind it; nil while there is none.
// It does not block.
func (k *Keeper) View() *region.View { return k.view.Load() }

// Changed returns a channel that is closed at the next change of the world or
// the overlay. Take it before reading [Keeper.View], and no change is missed.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

func (k *Keeper) notifyLocked() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// Envelope returns the newest world as it travels; nil while there is none.
func (k *Keeper) Envelope() *region.Envelope {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := k.chain.Newest(); n != nil {
		return n.Envelope
	}
	return nil
}

// Change returns how the newest world's acting region of a home came about; false
// when there is no such home.
func (k *Keeper) Change(home region.ID) (region.Change, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.chain.Change(home)
}

// Hint says that somebody claims there is a world of that version. It never
// blocks and changes nothing: at most it makes the keeper ask other nodes
// sooner.
func (k *Keeper) Hint(version uint64) {
	if v := k.View(); v != nil && version <= v.World.Version {
		return
	}
	k.metrics.hints.Inc()
	k.poke(version)
}

// HintWorld is [Keeper.Hint] for who knows the hash too: it also notices the
// other side of a fork.
func (k *Keeper) HintWorld(version uint64, hash region.ShortHash) {
	if v := k.View(); v != nil && version == v.World.Version && hash != v.Hash.Short() {
		k.metrics.hints.Inc()
		k.poke(version)
		return
	}
	k.Hint(version)
}

// Guard has f called with every world before it shows here, and with the
// present one before Guard returns. A region raises its store's fence in it: a
// commit that was admitted under the old world then finds the door shut, so
// nothing is acknowledged at an older term once the newer world is held (rule
// 3). When f fails the old world stays, and the new one is tried again with the
// next offer. f must not call the keeper.
func (k *Keeper) Guard(f func(*region.View) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.view.Load(); v != nil {
		if err := f(v); err != nil {
			return err
		}
	}
	k.guard = f
	return nil
}

func (k *Keeper) poke(version uint64) {
	select {
	case k.hints <- version:
	default: // a round is due anyway
	}
}

// Offer verifies envelopes in order and takes up those that count; each is on
// disk before it shows. It returns the first error, having tried them all. A
// world known already is no error; a fork's losing side is one, of kind
// Conflict.
func (k *Keeper) Offer(_ context.Context, envelopes ...*region.Envelope) error {
	var first error
	for _, e := range envelopes {
		if err := k.offer(e); err != nil {
			k.metrics.refused.WithLabelValues(region.KindOf(err).String()).Inc()
			if first == nil {
				first = err
			}
		}
	}
	return first
}

func (k *Keeper) offer(e *region.Envelope) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next, view, outcome, err := TakeUp(k.chain, e, k.overlay, k.disk.saveEnvelope, k.guard)
	switch outcome {
	case region.Outranked:
		k.chain = next
		k.metrics.forks.Inc()
		k.log.Error("fork: a sibling of a world in use was offered and lost", "version", e.Signed.Version, "hash", e.Signed.Hash().Short().String())
	case region.Switched:
		k.metrics.forks.Inc()
		k.log.Error("fork: a sibling of the world in use was offered and won", "version", e.Signed.Version, "hash", e.Signed.Hash().Short().String())
	}
	if err != nil {
		k.unreadableLocked(e, err)
		return err
	}
	if outcome == region.Unchanged {
		return nil
	}
	n := next.Newest()
	k.chain = next
	k.unready = nil
	clear(k.pending)
	k.view.Store(view)
	k.metrics.version.Set(float64(n.World.Version))
	k.notifyLocked()
	k.log.Info("world in effect", "version", n.World.Version, "hash", n.Hash.Short().String(), "outcome", outcome.String())
	return nil
}

// unreadableLocked remembers a world that took effect but that this node is too
// old to read: it keeps the old one and is not ready.
func (k *Keeper) unreadableLocked(e *region.Envelope, err error) {
	n := k.chain.Newest()
	if n == nil || e == nil || e.Signed == nil || region.KindOf(err) != region.Unsupported || !region.TakesEffect(n.World, e) {
		return
	}
	if k.unready == nil {
		k.log.Error("a newer world needs a newer program", "version", e.Signed.Version, "err", err)
	}
	k.unready = err
}

// Ready returns nil when there is a world and none that this node cannot read.
func (k *Keeper) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.chain.Newest() == nil {
		return region.Errorf(region.Unavailable, "%s has no world yet", k.o.Self).WithHint("push one to it")
	}
	return k.unready
}

// accept is the voter's answer; the ballot is on disk before it is given.
func (k *Keeper) accept(s *region.Signed) (region.Acceptance, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.chain.Newest()
	if n == nil {
		return region.Acceptance{}, region.Errorf(region.Unavailable, "%s has no world yet", k.o.Self)
	}
	if !k.isVoter(n.World) {
		return region.Acceptance{}, region.Errorf(region.Forbidden, "%s is no voter of world %d", k.o.Self, n.World.Version).WithHint("ask the regions and the witnesses")
	}
	h := s.Hash()
	if l, ok := k.chain.Find(h); ok {
		// It took effect here already; saying so again gives nothing away.
		return region.Accept(k.o.Self.String(), l.Hash, k.o.Key), nil
	}
	next, err := k.ballot.Vote(&n.Known, s)
	if err != nil {
		return region.Acceptance{}, err
	}
	if next.Accepted != k.ballot.Accepted || next.Parent != k.ballot.Parent {
		if err := k.disk.saveBallot(next); err != nil {
			return region.Acceptance{}, err
		}
		k.ballot = next
		k.log.Info("world accepted", "version", s.Version, "hash", h.Short().String())
	}
	return region.Accept(k.o.Self.String(), h, k.o.Key), nil
}

// isVoter also checks the key, so that a node with a replaced key does not vote.
func (k *Keeper) isVoter(w *region.World) bool {
	pub := k.o.Key.Public().(ed25519.PublicKey)
	for _, v := range w.Voters() {
		if v.Name == k.o.Self.String() && pub.Equal(ed25519.PublicKey(v.Key)) {
			return true
		}
	}
	return false
}

// String names the node and its world, for logs.
func (k *Keeper) String() string {
	if v := k.View(); v != nil {
		return fmt.Sprintf("%s at world %d", k.o.Self, v.World.Version)
	}
	return k.o.Self.String() + " without a world"
}

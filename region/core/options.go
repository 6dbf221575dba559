package core

import (
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// Options make a Core. Store, View, Self and Key are required.
type Options struct {
	// Store has the region's rows. When it has the journal as well (it is a
	// store.Store), the core executes this region's own commands; else it serves
	// requests only, and the process that has the journal executes them.
	Store store.Rows
	Self  region.ID
	Key   ed25519.PrivateKey // of region Self; signs tickets

	// View returns the newest world; nil when the node has none yet, and then
	// nothing is admitted.
	View func() *region.View
	// Changed returns a channel that is closed at the next change of the world.
	// Without it the world is looked at every second.
	Changed func() <-chan struct{}
	// Admitting says why this region may not admit writes now. nil admits.
	Admitting func() error

	// Held returns up to where the backup of a home that this region acts for has
	// this region's journal of a partition, false when that is not known. nil: it
	// never is. It must not block.
	Held func(home region.ID, p region.Partition) (Mark, bool)

	// Taken says why owners of a home may not be served at a term, in a
	// partition: this region has not taken the home over there yet. nil: it has.
	Taken func(home region.ID, t region.Term, p region.Partition) error

	// Budgeted says why no message is taken for owners of a home: too much waits for
	// its region already. nil: it never does. It must not block.
	Budgeted func(home region.ID) error

	Directory Directory             // without one, handles and new UINs are Unavailable
	Notifier  Notifier              // nil: nobody is notified
	Logger    *slog.Logger          // nil discards
	Registry  prometheus.Registerer // nil: not exported
	Clock     func() time.Time      // nil is time.Now; tells expiry and time stamps, never order

	TicketLife time.Duration // of tickets; 0 is 24 hours
	Range      int           // UINs asked of the Directory at a time; 0 is 1,000
	Heads      int           // owners of whom the newest sequence and the like are kept in memory; 0 is 100,000
	Retention  time.Duration // how long messages are kept, by their sender's region's clock; 0 is for ever
	UserRate   int           // messages a second that a user may send, with bursts of two seconds' worth; 0 is no limit
	DeviceRate int           // the same of each device
	Parallel   int           // owners whose commands are executed at the same time; 0 is 256
}

func (o *Options) validate() error {
	switch {
	case o.Store == nil || o.View == nil:
		return region.Errorf(region.BadInput, "core: a store and a view of the world are required")
	case o.Self.Valid() != nil:
		return region.Errorf(region.BadInput, "core: region").WithCause(o.Self.Valid())
	case o.Store.Region() != o.Self:
		return region.Errorf(region.BadInput, "core: the store is region %s's, not %s's", o.Store.Region(), o.Self).WithHint("check the data directory")
	case len(o.Key) != ed25519.PrivateKeySize:
		return region.Errorf(region.BadInput, "core: the region's private key has %d bytes, want %d", len(o.Key), ed25519.PrivateKeySize)
	case o.TicketLife < 0 || o.Retention < 0 || o.Range < 0 || o.Heads < 0 || o.Parallel < 0 || o.UserRate < 0 || o.DeviceRate < 0:
		return region.Errorf(region.BadInput, "core: a negative option")
	}
	if o.Admitting == nil {
		o.Admitting = func() error { return nil }
	}
	if o.Held == nil {
		o.Held = func(region.ID, region.Partition) (Mark, bool) { return Mark{}, false }
	}
	if o.Budgeted == nil {
		o.Budgeted = func(region.ID) error { return nil }
	}
	if o.Directory == nil {
		o.Directory = noDirectory{}
	}
	if o.Notifier == nil {
		o.Notifier = noNotifier{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.TicketLife = orDefault(o.TicketLife, 24*time.Hour)
	o.Range = orDefault(o.Range, 1000)
	o.Heads = orDefault(o.Heads, 100_000)
	o.Parallel = orDefault(o.Parallel, 256)
	return nil
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

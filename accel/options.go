package accel

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// Limits that no operator has a reason to turn.
const (
	MaxHello   = 8 << 10 // bytes of the first frame's body
	MaxRequest = 1 << 20 // bytes of an HTTP request's body
)

// TLV is the type of the PROXY protocol v2 TLV that carries the POP's ID; the
// standard leaves 0xE0 to 0xEF to applications.
const TLV = 0xE0

// World is the newest world on this node; *keeper.Keeper is one. No method
// blocks.
type World interface {
	View() *region.View       // nil when there is none yet
	Changed() <-chan struct{} // closed at the next change of world or overlay; take it before View
	Hint(version uint64)      // somebody claims that this version exists
}

// Options configures a [POP]. ID and World are required.
type Options struct {
	ID    region.POPID
	World World

	// Long, Short and Web are the listen addresses, IP:port; an empty one is not
	// served.
	Long, Short, Web string

	// TLS is for the long listener, WebTLS for the short and the web one. Nil is
	// plain text, which New refuses on anything but loopback.
	TLS, WebTLS *tls.Config
	// RegionTLS is for long connections to regions, RegionWebTLS for their short
	// and web listeners; the server name is set to <service>.<zone>. Nil is plain
	// text, which is refused towards anything but loopback.
	RegionTLS, RegionWebTLS *tls.Config

	// MaxConnections bounds the client connections of all listeners; 100,000
	// when 0. MaxPerAddress bounds those of one client address (IPv6: one /64);
	// 1,000 when 0, because carriers put many users behind one address. Beyond
	// either a connection is closed before its first byte is read.
	MaxConnections, MaxPerAddress int

	// Handshake is how long a client may take from connecting to its whole HELLO;
	// 10 s when 0. It bounds what a client that sends a byte a second costs.
	Handshake time.Duration
	// Connect is how long the POP tries to reach the acting region and to get its
	// reply to HELLO, all attempts together; 6 s when 0: three attempts of a few
	// intercontinental round trips.
	Connect time.Duration
	// Spread is the delay in the GOAWAY that follows the loss of a region; each
	// client reconnects after a random part of it; 3 s when 0.
	Spread time.Duration
	// DrainSpread is the same for [POP.Drain]; 30 s when 0.
	DrainSpread time.Duration
	// Probe is the interval of the probes that measure the way to each region;
	// 10 s when 0.
	Probe time.Duration

	Logger   *slog.Logger          // nil discards
	Registry prometheus.Registerer // nil keeps the metrics unregistered
}

// attempts is how often a region is dialled for one HELLO.
const attempts = 3

func (o Options) withDefaults() (Options, error) {
	if err := o.ID.Valid(); err != nil {
		return o, fmt.Errorf("accel: %w", err)
	}
	if o.World == nil {
		return o, fmt.Errorf("accel: World is required")
	}
	doors := wire.Listeners{Long: o.Long, Short: o.Short, Web: o.Web, TLS: o.TLS, WebTLS: o.WebTLS}
	if err := doors.Check(); err != nil {
		return o, fmt.Errorf("accel: %w", err)
	}
	o.Handshake = cmp.Or(max(o.Handshake, 0), 10*time.Second)
	o.Connect = cmp.Or(max(o.Connect, 0), 6*time.Second)
	o.Spread = cmp.Or(max(o.Spread, 0), 3*time.Second)
	o.DrainSpread = cmp.Or(max(o.DrainSpread, 0), 30*time.Second)
	o.Probe = cmp.Or(max(o.Probe, 0), 10*time.Second)
	o.MaxConnections = cmp.Or(max(o.MaxConnections, 0), 100_000)
	o.MaxPerAddress = cmp.Or(max(o.MaxPerAddress, 0), 1_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

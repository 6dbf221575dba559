package client

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Identity is who the client is. It holds the device's private key: keep it as
// one keeps a password.
type Identity struct {
	UIN     region.UIN
	Key     ed25519.PrivateKey
	Ticket  string
	Expires time.Time // of the ticket; zero is unknown
	Region  region.ID // where it was registered; for people
}

// PublicKey returns the device's public key.
func (i Identity) PublicKey() ed25519.PublicKey {
	return ed25519.PublicKey(i.Key[ed25519.SeedSize:])
}

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Options configures a [Client]. Identity is required, and at least one way to
// find an endpoint.
type Options struct {
	Zone    string // of the service, such as "demo.test"
	HTTPDNS string // base URL, such as "http://127.0.0.1:7080"; empty is not asked
	// AnswerKeys are the keys of the regions by which HTTPDNS answers have to be
	// signed (package region/answer); others are refused, and DNS, what worked
	// before and the built-in addresses do. nil believes HTTPDNS as it is: give the
	// keys where its URL is not https, or who ends TLS there need not be believed.
	AnswerKeys map[region.ID]region.PublicKey
	DNS        string           // host:port of the DNS server; empty is not asked
	Known      []netip.AddrPort // what worked the last time, best first; nil is what Dir has
	Fallback   []netip.AddrPort // built in: the last resort
	Short      string           // base URL of the short connection; empty is https://short.<Zone>, resolved like the long one

	// RootCAs are the world's; nil is the system's. Plain turns TLS off, for
	// tests on loopback.
	RootCAs *x509.CertPool
	Plain   bool

	Identity      Identity
	ClientVersion uint32 // such as 80003
	Platform      string // such as "cli"; at most 32 bytes
	PretendIP     netip.Addr

	// Dir is where the client keeps, across restarts, the endpoints that worked
	// and what it has sent (see [Client.Send]); it is made when it is missing, and
	// several processes may share it. Empty keeps both in memory.
	Dir string

	// OnEvent and OnNotice, when set, are called for each event and notice, one
	// after the other, in place of the channels. They may block, and call
	// everything but Close; meanwhile the oldest events are dropped.
	OnEvent  func(Event)
	OnNotice func(*v1.Notice)

	// OnIdentity, when set, is called after the ticket was renewed, so that the
	// app can store it. It must not call back into the client.
	OnIdentity func(Identity)

	// Port is what DNS answers without SRV records are completed with; 7101
	// when 0.
	Port uint16

	// Dial opens every connection, those to DNS included; nil is a net.Dialer.
	Dial DialFunc

	// ConnectTimeout bounds one attempt from dialing to the proof; 8 s when 0.
	ConnectTimeout time.Duration
	// Stagger is how long one endpoint has before the next is tried beside it;
	// 250 ms when 0 (RFC 8305, section 5).
	Stagger time.Duration
	// BackoffMin and BackoffMax bound the pause after a failure, which doubles
	// and is jittered; 200 ms and 30 s when 0. After a request for which the region
	// says how soon to ask again, it is that.
	BackoffMin, BackoffMax time.Duration
	// Settle is how often the region is asked what its backup holds, while
	// messages are kept and the app does not Sync; 10 s when 0.
	Settle time.Duration

	Logger *slog.Logger // nil discards
}

const maxRedirects = 3 // in a row, without a pause

func (o Options) withDefaults() (Options, error) {
	if o.Identity.UIN == 0 || len(o.Identity.Key) != ed25519.PrivateKeySize {
		return o, errors.New("client: Identity needs a UIN and the device's private key; see Register")
	}
	if o.HTTPDNS == "" && o.DNS == "" && len(o.Known) == 0 && len(o.Fallback) == 0 {
		return o, errors.New("client: no way to find an endpoint: set HTTPDNS, DNS, Known or Fallback")
	}
	if o.Zone == "" && (o.HTTPDNS != "" || o.DNS != "" || !o.Plain) {
		return o, errors.New("client: Zone is required")
	}
	if len(o.Platform) > 32 {
		return o, fmt.Errorf("client: platform %q is longer than 32 bytes", o.Platform)
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&o.ConnectTimeout, 8*time.Second)
	or(&o.Stagger, 250*time.Millisecond)
	or(&o.BackoffMin, 200*time.Millisecond)
	or(&o.BackoffMax, 30*time.Second)
	or(&o.Settle, 10*time.Second)
	o.BackoffMax = max(o.BackoffMax, o.BackoffMin)
	if o.Port == 0 {
		o.Port = 7101
	}
	if o.Dial == nil {
		o.Dial = dialer()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

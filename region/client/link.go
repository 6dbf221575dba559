package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Link is one long connection of a user, over which the device key is proven: the
// lower layer that a [Client] keeps, and makes anew. By itself it neither finds
// endpoints, reconnects, follows redirects, nor sends heartbeats or keeps messages.
// It is for programs with thousands of connections that decide when each byte
// leaves, such as load generators.
//
// What is sent and received are frames of package wire. One goroutine may call Next
// while another calls Write.
type Link struct {
	Region    region.ID     // that acts for the user
	Epoch     region.Epoch  // of the user
	POP       string        // on the way; empty when there is none
	World     uint64        // version that the server has
	Heartbeat time.Duration // how often the server wants to hear something
	Expires   time.Time     // of the ticket; zero when it was not said

	nc net.Conn
	r  *wire.Reader
}

// LinkOptions say whose a [Link] is, and how it is secured. Identity is required,
// and Zone where Plain is not set.
type LinkOptions struct {
	Identity      Identity
	ClientVersion uint32 // such as 80003
	Platform      string // such as "cli"; at most 32 bytes
	World         uint64 // newest version that the client has heard of
	ConnectionID  []byte // 16 bytes, the same for all connections of a client; nil makes one

	Zone    string         // of the service; the server's certificate has to be of long.<Zone>
	RootCAs *x509.CertPool // the world's; nil is the system's
	Plain   bool           // no TLS, for tests on loopback
	Dial    DialFunc       // nil is a net.Dialer
}

func dialer() DialFunc {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	return d.DialContext
}

// DialLink connects to an endpoint and proves the device key. It blocks until the
// region has taken the proof, or ctx ends.
//
// Errors: region.WrongRegion when another region acts for the user, with the
// redirect (wire.RedirectOf); region.Unauthenticated when the ticket is no longer
// good; region.Unavailable when the endpoint cannot be reached or says nothing;
// region.BadInput without an Identity; otherwise what the region answers.
func DialLink(ctx context.Context, endpoint netip.AddrPort, o LinkOptions) (*Link, error) {
	if o.Identity.UIN == 0 || len(o.Identity.Key) != ed25519.PrivateKeySize {
		return nil, region.Errorf(region.BadInput, "client: Identity needs a UIN and the device's private key").WithHint("see Register")
	}
	if o.Dial == nil {
		o.Dial = dialer()
	}
	if o.ConnectionID == nil {
		o.ConnectionID = make([]byte, 16)
		_, _ = rand.Read(o.ConnectionID)
	}
	nc, err := o.secure(ctx, endpoint)
	if err != nil {
		return nil, region.Errorf(region.Unavailable, "the endpoint cannot be reached").WithCause(err)
	}
	l, err := o.prove(ctx, nc)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return l, nil
}

// secure connects, with TLS where it is wanted.
func (o *LinkOptions) secure(ctx context.Context, e netip.AddrPort) (net.Conn, error) {
	nc, err := o.Dial(ctx, "tcp", e.String())
	if err != nil || o.Plain {
		return nc, err
	}
	t := tls.Client(nc, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: string(region.Long) + "." + o.Zone, RootCAs: o.RootCAs})
	if err := t.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("%s: %w", e, err)
	}
	return t, nil
}

// prove sends Hello and the proof. When it fails the connection is the caller's to
// close.
func (o *LinkOptions) prove(ctx context.Context, nc net.Conn) (*Link, error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := o.Identity
	keyID := wire.KeyID(id.PublicKey())
	l := &Link{nc: nc, r: wire.NewReader(nc)}
	f, err := l.ask(wire.Hello, 1, &v1.Hello{
		WireVersion: wire.Version, Uin: uint64(id.UIN), ClientVersion: o.ClientVersion, Platform: o.Platform,
		WorldVersion: o.World, DeviceKeyId: keyID[:], Ticket: id.Ticket, ConnectionId: o.ConnectionID,
	})
	if err != nil {
		return nil, err
	}
	if f.Method == wire.Redirect {
		rd := new(v1.Redirect)
		if err := wire.Unmarshal(f, rd); err != nil {
			return nil, err
		}
		return nil, &wire.Error{Err: region.Errorf(region.WrongRegion, "region %s acts for UIN %d", rd.Acting, id.UIN), WorldVersion: rd.WorldVersion, Redirect: rd}
	}
	hr := new(v1.HelloReply)
	if err := wire.Unmarshal(f, hr); err != nil {
		return nil, err
	}
	if l.Epoch, err = wire.EpochFromProto(hr.Epoch); err != nil {
		return nil, err
	}
	l.Region, l.POP, l.World = region.ID(hr.Region), hr.Pop, hr.WorldVersion
	sig := ed25519.Sign(id.Key, wire.ConnectionProof(hr.Region, l.Epoch, o.ConnectionID, hr.Nonce, id.UIN))
	f, err = l.ask(wire.Reauth, 2, &v1.Reauth{Nonce: hr.Nonce, Signature: sig})
	if err != nil {
		return nil, err
	}
	rr := new(v1.ReauthReply)
	if err := wire.Unmarshal(f, rr); err != nil {
		return nil, err
	}
	l.Heartbeat = time.Duration(max(rr.HeartbeatSeconds, 1)) * time.Second
	if rr.TicketExpiresUnix > 0 {
		l.Expires = time.Unix(rr.TicketExpiresUnix, 0)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return l, nc.SetDeadline(time.Time{})
}

// proofs are the sequences that ask has used when a Link is made.
const proofs = 2

// ask is one question of the handshake and its answer.
func (l *Link) ask(m wire.Method, sequence uint64, body proto.Message) (wire.Frame, error) {
	b, err := wire.AppendMessage(nil, m, 0, sequence, body)
	if err != nil {
		return wire.Frame{}, err
	}
	if _, err := l.nc.Write(b); err != nil {
		return wire.Frame{}, lost(err)
	}
	f, err := l.r.Next()
	if err != nil {
		return f, lost(err)
	}
	if f.Is(wire.FlagError) {
		return f, errorOf(f)
	}
	redirected := m == wire.Hello && f.Method == wire.Redirect
	if !f.Is(wire.FlagResponse) || f.Sequence != sequence || (f.Method != m && !redirected) {
		return f, region.Errorf(region.Unavailable, "the server answered %s with %s", m, f.Method).WithHint("is this a Homing endpoint?")
	}
	return f, nil
}

// Next blocks until a frame is there and returns it: an answer, an error
// ([ErrorOf]), or a push. Its body is good until the next call. After an error the
// link is of no use.
func (l *Link) Next() (wire.Frame, error) { return l.r.Next() }

// Write sends whole frames, which wire.AppendMessage makes, with sequences from 3
// on. It blocks while the server takes nothing.
func (l *Link) Write(frames []byte) error {
	_, err := l.nc.Write(frames)
	return err
}

// Close ends the connection, and Next with it.
func (l *Link) Close() error { return l.nc.Close() }

// ErrorOf returns the error that the server answered with; nil when the frame
// carries none.
func ErrorOf(f wire.Frame) error {
	if !f.Is(wire.FlagError) {
		return nil
	}
	return errorOf(f)
}

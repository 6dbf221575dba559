package client_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// newPlainShort is a region's short listener without TLS.
func newPlainShort(t *testing.T, r *rig) string {
	t.Helper()
	p, err := access.NewPresence(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := access.New(access.Options{Region: "sh", World: r.sh.world, Logic: r.sh.logic, Presence: p, Short: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return "http://" + s.Addr(region.Short).String()
}

// A POP that moves its client to another region, as the protocol document has
// it: the client proves itself to the new region, and sends again what was not
// answered.
func TestRehomed(t *testing.T) {
	users := accesstest.NewUsers(1)
	key, ticket := users.Add(1_000_001)
	serverTLS, pool := accesstest.Authority("long.demo.test")
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan struct{})
	resent := make(chan string, 2)
	go func() {
		defer close(served)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		servePOP(t, nc, key.Public().(ed25519.PublicKey), resent)
	}()
	c, err := client.New(client.Options{
		Zone: "demo.test", RootCAs: pool, Known: []netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())},
		Identity:   client.Identity{UIN: 1_000_001, Key: key, Ticket: ticket, Expires: time.Now().Add(time.Hour)},
		BackoffMin: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := within(t)
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	if id, pop, _ := c.Where(); id != "sh" || pop != "pop-1" {
		t.Errorf("connected to %s through %s", id, pop)
	}
	if _, err := c.Send(ctx, text(1, "m-1", "x")); err != nil {
		t.Error(err)
	}
	if a, b := <-resent, <-resent; a != "m-1" || b != "m-1" {
		t.Errorf("sent %q and %q", a, b)
	}
	if id, _, _ := c.Where(); id != "hk" {
		t.Errorf("now in %s", id)
	}
	if e := last(await(t, c, client.Rehomed)); e.Region != "hk" {
		t.Errorf("event %+v", e)
	}
	_ = c.Close()
	<-served
}

func servePOP(t *testing.T, nc net.Conn, key ed25519.PublicKey, sends chan<- string) {
	r, w := wire.NewReader(nc), wire.NewWriter(nc)
	say := func(m wire.Method, f wire.Flags, seq uint64, b proto.Message) {
		if err := w.Message(m, f, seq, b); err != nil {
			t.Error(err)
		}
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
	}
	var hello v1.Hello
	nonce := make([]byte, 32)
	at, epoch := "sh", region.Epoch{Moves: 1}
	for {
		f, err := r.Next()
		if err != nil {
			return
		}
		switch f.Method {
		case wire.Hello:
			if err := wire.Unmarshal(f, &hello); err != nil {
				t.Error(err)
			}
			say(wire.Hello, wire.FlagResponse, f.Sequence, &v1.HelloReply{WireVersion: 1, Nonce: nonce, Region: at, Epoch: wire.EpochToProto(epoch), Pop: "pop-1"})
		case wire.Reauth:
			re := new(v1.Reauth)
			if err := wire.Unmarshal(f, re); err != nil {
				t.Error(err)
			}
			if err := wire.CheckReauth(re, nonce, key, at, epoch, hello.ConnectionId, 1_000_001); err != nil {
				t.Errorf("in %s: %v", at, err)
			}
			say(wire.Reauth, wire.FlagResponse, f.Sequence, &v1.ReauthReply{HeartbeatSeconds: 60, TicketExpiresUnix: time.Now().Add(time.Hour).Unix()})
		case wire.Send:
			q := new(v1.SendRequest)
			if err := wire.Unmarshal(f, q); err != nil {
				t.Error(err)
			}
			sends <- q.ClientMessageId
			if at == "hk" {
				say(wire.Send, wire.FlagResponse, f.Sequence, &v1.SendResponse{Sequence: 1})
				continue
			}
			// The region dies before it answers.
			at, epoch, nonce = "hk", region.Epoch{Moves: 1, Term: region.Term{Counter: 1, Raised: region.ShortHash{9}}}, []byte("another nonce, of the new region")
			say(wire.Rehomed, wire.FlagPush, 0, &v1.Rehomed{Region: at, Epoch: wire.EpochToProto(epoch)})
			say(wire.Reauth, wire.FlagPush, 0, &v1.Reauth{Nonce: nonce})
		}
	}
}
